"""What became of each scene: ``summary.json``, rewritten whole after every scene, from which a later batch continues."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geofuse import __version__
from geofuse.batch.plan import BatchPlan
from geofuse.errors import OutputError

_LOG = logging.getLogger(__name__)
FORM = 1  # of summary.json; one of another form is not continued from
STATES = ("done", "kept", "failed", "interrupted", "waiting")


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene.

    Attributes
    ----------
    name
        As :attr:`geofuse.batch.plan.Scene.name`.
    state
        ``done``; ``kept`` (was done before and still holds); ``failed``; ``interrupted``; ``waiting`` (not reached).
    cause
        Why it failed, one line.
    note
        Why it was done again, or what else there is to say.
    seconds
        From its start to its end.
    output, log
        Paths.
    run
        What ``geofuse run --json`` printed, for a scene that is done.
    fingerprint
        What it was made from; see :mod:`geofuse.batch.fingerprint`.
    """

    name: str
    state: str
    output: str
    log: str
    cause: str | None = None
    note: str | None = None
    seconds: float | None = None
    run: Mapping[str, Any] | None = None
    fingerprint: Mapping[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """Tell whether its output is there and holds."""
        return self.state in ("done", "kept")


@dataclass(frozen=True)
class BatchSummary:
    """All scenes of a batch, in the order of the manifest."""

    source: Path
    path: Path
    scenes: Sequence[SceneResult]
    seconds: float = 0.0
    notes: Sequence[str] = field(default_factory=tuple)

    def count(self, *states: str) -> int:
        """Return how many scenes are in one of these states."""
        return sum(scene.state in states for scene in self.scenes)

    @property
    def unfinished(self) -> list[SceneResult]:
        """The scenes whose output is not there."""
        return [scene for scene in self.scenes if not scene.is_finished]

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain types."""
        return {
            "form": FORM,
            "version": __version__,
            "source": str(self.source),
            "summary": str(self.path),
            "seconds": round(self.seconds, 3),
            "counts": {state: self.count(state) for state in STATES},
            "notes": list(self.notes),
            "scenes": [asdict(scene) for scene in self.scenes],
        }

    def write(self) -> None:
        """Write ``summary.json``, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with open(part, "w", encoding="utf-8") as stream:
                json.dump(self.to_json(), stream, indent=1)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free space, or choose another --out-dir") from None


def results_before(plan: BatchPlan) -> dict[str, SceneResult]:
    """Return what an earlier batch wrote down, by scene; nothing if it wrote nothing that can be used."""
    try:
        found = json.loads(plan.summary_path.read_text(encoding="utf-8"))
        if found["form"] != FORM:
            raise ValueError(f"form {found['form']}")
        results = [SceneResult(**scene) for scene in found["scenes"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        _LOG.warning("%s cannot be continued from (%s); every scene is run", plan.summary_path, error)
        return {}
    return {result.name: result for result in results}
