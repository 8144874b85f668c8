"""What a benchmark consists of: sources, noise levels, seeds and methods, and one job for each combination."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from geofuse import __version__
from geofuse.errors import MissingFileError, UsageError
from geofuse.methods import METHODS
from geofuse.pipeline import PairOptions
from geofuse.registry import simplify, unknown_name
from geofuse.result import file_hash

ROW_FORM = 1  # of the rows in results.jsonl; rows of another form are not taken for results


@dataclass(frozen=True)
class MethodChoice:
    """A method and one of its presets; None takes the method's default for the device."""

    name: str
    preset: str | None = None

    @classmethod
    def parse(cls, text: str) -> MethodChoice:
        """Read ``method`` or ``method:preset``.

        Raises
        ------
        UnknownNameError
            If there is no such method.
        """
        name, _, preset = text.partition(":")
        known = {simplify(method): method for method in METHODS.names()}
        if simplify(name) not in known:
            raise unknown_name("method", name, METHODS.names())
        return cls(known[simplify(name)], preset or None)

    @property
    def label(self) -> str:
        """How tables call it."""
        return f"{self.name}:{self.preset}" if self.preset else self.name


@dataclass(frozen=True)
class SceneSource:
    """A scene that serves as the reference; a pair is simulated from it.

    ``srf`` names the sensor whose response makes the MSI, or a CSV table of it.
    """

    path: Path
    srf: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decide the inputs."""
        return (self.path,)

    @property
    def stem(self) -> str:
        """The short name."""
        return self.path.stem


@dataclass(frozen=True)
class PairSource:
    """A real pair, of which nobody knows the truth; ``srf`` None has a panchromatic band's response estimated."""

    hsi: Path
    msi: Path
    srf: str | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that decide the inputs."""
        return (self.hsi, self.msi)

    @property
    def stem(self) -> str:
        """The short name."""
        return f"{self.hsi.stem}+{self.msi.stem}"


@dataclass(frozen=True)
class Case:
    """One input for all methods: a source, and for a scene the noise; ``snr_db`` is None for a pair, infinite for no noise."""

    source: SceneSource | PairSource
    name: str
    snr_db: float | None
    seed: int


@dataclass(frozen=True)
class Job:
    """One method on one case; ``settings`` is all that decides the outcome, as plain types."""

    case: Case
    method: MethodChoice
    settings: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """What the result is stored under: a hash of the input files and all settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class BenchmarkPlan:
    """What to run.

    Attributes
    ----------
    sources
        Scenes and pairs.
    methods
        Methods, in the tables' order.
    ratio, snr_db, psf
        Of the simulation: fine pixels a coarse pixel, signal-to-noise ratios in dB, the PSF (:meth:`geofuse.sensors.Psf.parse`).
    seeds
        How many seeds; seed k = 0, 1, ... is that of the noise and of the method.
    msi_bands
        Names of the response's bands to make or use; None for all reflective ones, or what the MSI's file says.
    pair
        How the images of a :class:`PairSource` are brought together; its ``srf`` and ``msi_bands`` are those above.
    device
        Where the methods compute.

    Raises
    ------
    UsageError
        If there is no source, method or noise level, or one appears twice.
    MissingFileError
        If a source is not there.
    """

    sources: tuple[SceneSource | PairSource, ...]
    methods: tuple[MethodChoice, ...]
    ratio: int = 4
    snr_db: tuple[float, ...] = (35.0,)
    seeds: int = 1
    psf: str = "bicubic"
    msi_bands: tuple[str, ...] | None = None
    device: str = "auto"
    pair: PairOptions = PairOptions(coregister="auto")

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for what, values in (("scene or pair", self.sources), ("method", self.methods), ("SNR", self.snr_db)):
            if not values:
                raise UsageError(f"nothing to run: give at least one {what}")
            if len(set(values)) < len(values):
                raise UsageError(f"a {what} is given twice; give each once")
        if self.seeds < 1:
            raise UsageError(f"the number of seeds must be 1 or more, found {self.seeds}")
        for path in (path for source in self.sources for path in source.files):
            if not path.exists():
                raise MissingFileError(f"{path} does not exist; check the path")

    def cases(self) -> Iterator[Case]:
        """Iterate over the inputs."""
        stems = [source.stem for source in self.sources]
        for source in self.sources:
            name = source.stem if stems.count(source.stem) == 1 else "+".join(map(str, source.files))
            for snr_db in self.snr_db if isinstance(source, SceneSource) else (None,):
                for seed in range(self.seeds):
                    yield Case(source, name, snr_db, seed)

    def jobs(self, case: Case) -> list[Job]:
        """Return one job a method for one case."""
        shared = {**self._hashes[case.source], "seed": case.seed, "device": self.device, "version": __version__, "form": ROW_FORM}
        shared["msi_bands"] = list(self.msi_bands) if self.msi_bands else None
        if isinstance(case.source, SceneSource):
            noise = None if case.snr_db == math.inf else case.snr_db
            shared |= {"ratio": self.ratio, "snr_db": noise, "psf": self.psf}
        else:
            shared["pair"] = {name: _content(value) for name, value in self.pair_options.items()}
        return [Job(case, method, {**shared, "method": method.name, "preset": method.preset}) for method in self.methods]

    @cached_property
    def _hashes(self) -> dict[SceneSource | PairSource, dict[str, Any]]:
        """Say what each source's files hold, and its response."""
        return {
            source: {
                "kind": type(source).__name__,
                "files": [file_hash(path) for path in source.files],
                "srf": _content(source.srf),
            }
            for source in self.sources
        }

    @cached_property
    def pair_options(self) -> dict[str, Any]:
        """The fields of ``pair`` but for response and bands, as plain types."""
        values = {f.name: getattr(self.pair, f.name) for f in fields(self.pair) if f.name not in ("srf", "msi_bands")}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _content(value: Any) -> Any:
    """Return the hash of a file that a text names, anything else as it is."""
    return file_hash(value) if isinstance(value, str) and value and Path(value).is_file() else value
