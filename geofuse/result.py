"""What a run leaves behind: the form of the output file, its provenance tags and the summary."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofuse.errors import UsageError
from geofuse.memory import peak_memory_bytes
from geofuse.scene import BandMetadata

if TYPE_CHECKING:
    from geofuse.fusion import Fusion
    from geofuse.io import OutputSpec


@dataclass(frozen=True)
class OutputOptions:
    """How to store the result; None takes the HSI's own, and the driver that its name asks for."""

    driver: str | None = None
    dtype: str | None = None
    scale: float | None = None


@dataclass(frozen=True)
class RunSummary:
    """What a run did; every field is JSON-safe through :meth:`as_dict`.

    ``bottleneck`` holds, for reading, fusing and writing, in which share of the time since learning ended they were what the others
    waited for. ``failed_tiles`` are those left as no data, and why. ``uncertainty`` tells, if it was asked for, the file it is in
    (``output``), the number of ``samples``, by what factors it was scaled (``from_coarse_to_fine``, ``for_few_samples``) and all of
    that in words (``note``).
    """

    output: str
    grid: str
    bands: str
    method: str
    device: str
    srf: str
    psf: str
    tiles: int
    seconds: Mapping[str, float]
    peak_memory_bytes: int
    notes: Sequence[str]
    bottleneck: Mapping[str, float] = field(default_factory=dict)
    failed_tiles: Mapping[int, str] = field(default_factory=dict)
    uncertainty: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as plain types."""
        plain = {name: dict(getattr(self, name)) for name in ("seconds", "bottleneck", "failed_tiles", "uncertainty")}
        return {**dataclasses.asdict(self), **plain, "notes": list(self.notes)}


def provenance(fusion: Fusion) -> dict[str, str]:
    """Return the ``GEOFUSE_*`` tags of a result: what decided its values, and nothing that changes from run to run.

    The PSF's tag is not the one that :mod:`geofuse.align.choose_psf` reads: it belongs to the HSI, not to the result.
    """
    from geofuse import __version__
    from geofuse.align.response_file import response_tag

    pair, settings = fusion.pair, fusion.settings
    moved = {"GEOFUSE_COREGISTRATION": pair.attrs["coregistration"]} if "coregistration" in pair.attrs else {}
    found = {"GEOFUSE_RESPONSES": response_tag(pair.attrs["responses"])} if "responses" in pair.attrs else {}
    adapted = {
        "GEOFUSE_RADIOMETRY": "radiometry",
        "GEOFUSE_MSI_ENCODING": "msi_encoding",
        "GEOFUSE_MSI_WEIGHT": "msi_weight_source",
    }
    moved |= {tag: pair.attrs[name] for tag, name in adapted.items() if name in pair.attrs}
    prior = {} if settings.prior is None else {"GEOFUSE_PRIOR": named_hash(settings.prior)}
    samples = {} if settings.uncertainty is None else {"GEOFUSE_UNCERTAINTY_SAMPLES": str(settings.uncertainty)}
    return {
        "GEOFUSE_VERSION": __version__,
        "GEOFUSE_METHOD": settings.method,
        "GEOFUSE_PRESET": fusion.preset,
        "GEOFUSE_PARAMETERS": json.dumps(dataclasses.asdict(fusion.options), sort_keys=True),
        "GEOFUSE_TILES": f"tile {fusion.grid.tile}, overlap {fusion.grid.overlap} fine pixels",
        "GEOFUSE_SEED": str(settings.seed),
        "GEOFUSE_DEVICE": fusion.model.device.partition(":")[0],
        "GEOFUSE_RATIO": str(fusion.grid.ratio),
        "GEOFUSE_SRF": pair.attrs["srf"],
        "GEOFUSE_SRF_SOURCE": pair.attrs["srf_source"],
        "GEOFUSE_HSI_PSF": pair.attrs["psf"],
        "GEOFUSE_HSI_PSF_SOURCE": pair.attrs["psf_source"],
        **moved,
        **found,
        **prior,
        **samples,
    }


def input_hashes(hsi: str | Path, msi: str | Path) -> dict[str, str]:
    """Return the tags that name the two input files and the SHA-256 of their bytes."""
    return {f"GEOFUSE_{kind}": named_hash(path) for kind, path in (("HSI", hsi), ("MSI", msi))}


def named_hash(path: str | Path) -> str:
    """Return the name of a file and the SHA-256 of its bytes."""
    return f"{Path(path).name} sha256:{file_hash(path)}"


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, of a folder's names and files, or ``unknown`` for a path that is not local."""
    if Path(path).is_dir():
        digest = hashlib.sha256()
        for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()} {file_hash(file)}\n".encode())
        return digest.hexdigest()
    if not Path(path).is_file():
        return "unknown"
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def output_spec(fusion: Fusion, options: OutputOptions, tags: Mapping[str, str]) -> OutputSpec:
    """Return the form of the result: the MSI's grid, the HSI's bands, and its type, scale and no data unless asked otherwise.

    Raises
    ------
    UsageError
        If whole numbers are asked for without a scale where the HSI's is not one of whole numbers, or one of wider ones.
    """
    from affine import Affine

    from geofuse.io import OutputSpec, default_nodata

    pair, attrs = fusion.pair, fusion.pair.attrs
    row0, row1, col0, col1 = attrs["output_window"]
    bands = BandMetadata(
        pair["wavelength"].values, pair["fwhm"].values, pair["good_band"].values, tuple(str(n) for n in pair["band_name"].values)
    )
    stored = str(attrs.get("stored_dtype", "float32"))
    dtype = options.dtype or stored
    own, whole = dtype == stored, not dtype.startswith("float")
    keep_scale = options.scale is None and (own or (whole and not stored.startswith("float")))
    if options.scale is None and whole and not keep_scale:
        raise UsageError(
            f"the HSI holds {stored}; to store {dtype} give --scale, value = stored * scale, such as 0.0001 for reflectance"
        )
    scale = float(attrs.get("stored_scale", 1.0)) if keep_scale else (1.0 if options.scale is None else options.scale)
    offset = float(attrs.get("stored_offset", 0.0)) if keep_scale else 0.0
    nodata = attrs.get("stored_nodata") if own else None
    nodata = default_nodata(dtype) if nodata is None else float(nodata)
    if keep_scale and whole and np.dtype(dtype).itemsize < np.dtype(stored).itemsize:
        held = f"the HSI holds {stored} with a scale of {attrs.get('stored_scale', 1.0):g}"
        raise UsageError(
            f"{held}, of which {dtype} holds less: give --scale, value = stored * scale, such as 0.004 for reflectance"
        )
    transform = Affine(*attrs["output_transform"])
    return OutputSpec(row1 - row0, col1 - col0, bands, transform, pair.rio.crs, dtype, scale, offset, nodata, dict(tags))


def uncertainty_spec(fusion: Fusion, spec: OutputSpec) -> OutputSpec:
    """Return the form of the standard deviations of a result: the same but float32, in the HSI's units; the fusion has learnt."""
    tags = {"GEOFUSE_UNCERTAINTY": f"standard deviation; {fusion.posterior.note}"}
    plain = {"dtype": "float32", "scale": 1.0, "offset": 0.0, "nodata": float("nan")}
    return dataclasses.replace(spec, **plain, tags={**spec.tags, **tags})


def summarise(
    fusion: Fusion,
    spec: OutputSpec,
    output: str,
    seconds: Mapping[str, float],
    shares: Mapping[str, float],
    failed: Mapping[int, str],
    uncertainty: Path | None = None,
) -> RunSummary:
    """Gather what a run did: ``shares`` of the stages while it fused and wrote, ``failed`` tiles and why, where the spread went."""
    pair, wavelength = fusion.pair, spec.bands.wavelength_nm
    crs = spec.crs.to_string() if spec.crs else "no CRS"
    crs = crs if len(crs) < 20 else (f"EPSG:{spec.crs.to_epsg()}" if spec.crs.to_epsg() else spec.crs.to_wkt()[:40])
    pixel = f"{abs(spec.transform.a):g} x {abs(spec.transform.e):g}"
    known = wavelength[np.isfinite(wavelength)]
    span = f"{known.min():.0f}-{known.max():.0f} nm" if len(known) else "wavelengths unknown"
    return RunSummary(
        output=output,
        grid=f"{spec.width} x {spec.height} pixels of {pixel}, {crs}, ratio {fusion.grid.ratio}",
        bands=f"{len(wavelength)} bands, {span}, {spec.dtype}",
        method=f"{fusion.settings.method}, preset {fusion.preset}",
        device=fusion.model.device,
        srf=pair.attrs["srf"],
        psf=f"{fusion.model.psf.label} ({pair.attrs['psf_source']})",
        tiles=len(fusion.grid),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        peak_memory_bytes=peak_memory_bytes(),
        notes=tuple(pair.attrs["notes"]),
        bottleneck={stage: round(share, 4) for stage, share in shares.items()},
        failed_tiles=dict(failed),
        uncertainty={} if uncertainty is None else {"output": str(uncertainty), **fusion.posterior.as_dict()},
    )
