"""Where the files of a batch may lie.

A manifest may come from somebody else, so what it names is held to folders that the person at the keyboard chose: outputs stay
under ``--out-dir`` or the manifest's folder, inputs under the manifest's folder or one that ``--data-dir`` names. Symbolic links
are followed first: where a path ends counts, not what it is called.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from geofuse.errors import UsageError

_REMOTE = re.compile(r"^([a-z][a-z0-9+.-]+://|/vsi)", re.IGNORECASE)


@dataclass(frozen=True)
class Roots:
    """The folders of a batch: ``base`` for inputs (relative to it), ``out`` for outputs, ``data`` where else inputs may lie."""

    base: Path
    out: Path
    data: tuple[Path, ...] = ()

    def input(self, where: str, text: str) -> Path:
        """Return the path of an input, absolute; it need not exist.

        Raises
        ------
        UsageError
            If it lies outside the folders that inputs may lie in.
        """
        path = Path(os.path.abspath(self.base / text))
        allowed = [folder.resolve() for folder in (self.base, *self.data)]
        if not any(path.resolve().is_relative_to(folder) for folder in allowed):
            found = f" ({path.resolve()})" if str(path.resolve()) != text else ""
            raise UsageError(
                f"{where}: {text}{found} lies outside the manifest's folder {self.base}; "
                "allow the folder it lies in with --data-dir if you trust it"
            )
        return path

    def output(self, where: str, text: str) -> Path:
        """Return the path of an output, absolute.

        Raises
        ------
        UsageError
            If it is absolute, or leads out of the folder for outputs.
        """
        path = Path(os.path.abspath(self.out / text))
        if Path(text).is_absolute() or ".." in Path(text).parts or _REMOTE.match(text):
            raise UsageError(f"{where}: {text}; expected a path inside {self.out}: no leading /, no .. and no URL")
        if not path.resolve().is_relative_to(self.out.resolve()):
            raise UsageError(f"{where}: {text} leads to {path.resolve()}, outside {self.out}, by a symbolic link; remove the link")
        if path == self.out:
            raise UsageError(f"{where}: {text!r} is the folder itself; give the name of a file")
        return path


def is_remote(text: str) -> bool:
    """Tell whether a text is a URL or a ``/vsi`` path."""
    return bool(_REMOTE.match(text))
