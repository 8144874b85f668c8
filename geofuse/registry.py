"""A small registry: names to the import path of the thing they name, so that listing names imports nothing heavy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from geofuse.errors import UnknownNameError


def simplify(name: str) -> str:
    """Reduce a name to lower-case letters and digits, so that ``Landsat-8`` and ``landsat8`` are the same name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not among ``known``, with the nearest names as a hint."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UnknownNameError(f"unknown {kind} {name!r}; {hint}")


class Registry:
    """Maps names to ``"module:attribute"`` strings and imports the module only when its entry is asked for."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        """Hold ``entries`` (name to ``"module:attribute"``); ``kind`` is the word used in error messages."""
        self.kind = kind
        self._entries = dict(entries)

    def names(self) -> tuple[str, ...]:
        """Return the names, in the order they were registered."""
        return tuple(self._entries)

    def name_of(self, name: str) -> str:
        """Return the registered name that ``name`` means (case, dashes and spaces do not matter).

        Raises
        ------
        UnknownNameError
            If there is no such entry.
        """
        wanted = simplify(name)
        for key in self._entries:
            if simplify(key) == wanted:
                return key
        raise unknown_name(self.kind, name, self._entries)

    def get(self, name: str) -> Any:
        """Import and return the entry called ``name``, as :meth:`name_of` understands it.

        Raises
        ------
        UnknownNameError
            If there is no such entry.
        """
        module, _, attribute = self._entries[self.name_of(name)].partition(":")
        return getattr(import_module(module), attribute)
