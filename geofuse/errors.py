"""Errors raised by geofuse: each says what was found, what was expected and what to do.

Every class subclasses :class:`GeofuseError` and the builtin that fits, so that callers may catch either.
The command line prints the message on one line and leaves with exit code 2.
"""

from __future__ import annotations


class GeofuseError(Exception):
    """Base of every error that geofuse raises on purpose."""


class InputError(GeofuseError, ValueError):
    """A file or an array holds something the job cannot use."""


class MissingFileError(GeofuseError, FileNotFoundError):
    """A path that was named does not exist."""

    def __str__(self) -> str:
        """Return the message alone, without the errno decoration of ``FileNotFoundError``."""
        return str(self.args[0]) if self.args else ""


class UsageError(GeofuseError, ValueError):
    """An option or an argument is not of the form or range that it must have."""


class UnknownNameError(GeofuseError, LookupError):
    """A method, sensor, kernel or metric was asked for by a name that does not exist."""


class OutputError(GeofuseError, OSError):
    """The result could not be written; whatever stood at the output path before is untouched."""

    def __str__(self) -> str:
        """Return the message alone, without the errno decoration of ``OSError``."""
        return str(self.args[0]) if self.args else ""
