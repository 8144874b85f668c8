"""What a sink writes into before the file is finished: the blocks of a TIFF, or an ENVI image in place."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from geofuse.errors import GeofuseError, OutputError
from geofuse.io import metadata
from geofuse.io.output import OutputSpec
from geofuse.io.publish import publish
from geofuse.io.tiff_assembly import assemble
from geofuse.io.tiff_blocks import BlockFile, BlockLayout
from geofuse.io.verify import check_complete, verify

MAX_BLOCK_BYTES = 8 * 2**20
_BAND_BLOCK = 256  # side of the blocks of a plain GeoTIFF, which hold one band


def block_size(spec: OutputSpec) -> int:
    """Return the side of a COG's block in pixels: 512 or 256 where all bands take 8 MiB at most, else 128 (GDAL's least)."""
    pixel = len(spec.bands) * np.dtype(spec.dtype).itemsize
    return next((side for side in (512, 256) if side * side * pixel <= MAX_BLOCK_BYTES), 128)


class Body(Protocol):
    """The unfinished file; made as ``Body(work, final, spec)``, in a folder that may hold what an earlier process left.

    Attributes
    ----------
    block
        Rows and columns of a block: it is given windows of whole blocks only.
    failures
        What a failure to write raises, besides errors of rasterio.
    least_bytes
        How much space making the output takes at least.
    """

    failures: tuple[type[Exception], ...]

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a block."""

    @property
    def least_bytes(self) -> int:
        """Bytes that making the output takes at least."""

    def begin(self) -> None:
        """Create what must be there before the first window."""

    def store(self, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        """Keep a window (band, h, w) of stored values, whole blocks; return a receipt."""

    def restore(self, window: tuple[int, int, int, int], receipt: Mapping[str, Any]) -> bool:
        """Take back a window (row, col, height, width) kept by an earlier process; False if it is not intact."""

    def finish(self, sums: np.ndarray) -> None:
        """Make the final file, verify it against the checksums of its rows (height,) and rename it into place."""


class TiffBody:
    """A GeoTIFF as compressed blocks."""

    failures: tuple[type[Exception], ...] = (OSError, GeofuseError)
    cog = False

    def __init__(self, work: Path, final: Path, spec: OutputSpec) -> None:
        """Choose the layout; nothing is written yet."""
        self._work, self._final, self._spec = work, final, spec
        side = block_size(spec) if self.cog else _BAND_BLOCK
        self._layout = BlockLayout(side, self.cog, 2 if spec.is_integer else 3)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        return self._layout.side, self._layout.side

    @property
    def least_bytes(self) -> int:
        """Bytes that making the file takes whatever it holds: for a COG the image at half size, uncompressed."""
        return self._spec.raw_bytes // 4 if self.cog else 0

    def begin(self) -> None:
        """Open the file of blocks."""
        self._blocks = BlockFile(self._work, self._spec, self._layout, overviews=self.cog)

    def store(self, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        """Compress a window and keep its blocks."""
        return self._blocks.store(stored, row, col)

    def restore(self, window: tuple[int, int, int, int], receipt: Mapping[str, Any]) -> bool:
        """Take back the blocks of a window."""
        return self._blocks.restore(window, receipt)

    def finish(self, sums: np.ndarray) -> None:
        """Make the overviews, put the file together, verify it and rename it into place."""
        template, made = self._work / "template.tif", self._work / "image.tif"
        self._write_template(template)
        self._blocks.add_overviews()
        assemble(made, template, self._blocks, cog=self.cog)
        check_complete(made, self._spec, "GTiff")
        verify(made, self._spec, "GTiff", sums)
        publish({made: self._final}, self._work)

    def _write_template(self, path: Path) -> None:
        """Let GDAL write everything but the blocks."""
        import rasterio

        spec = self._spec
        place = {"height": spec.height, "width": spec.width, "crs": spec.crs, "transform": spec.transform}
        empty = {"sparse_ok": True, "bigtiff": "YES", "endianness": "LITTLE"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an image without a grid is written without one
            with rasterio.open(path, "w", **self._layout.profile(spec), **place, **empty) as dataset:
                metadata.write_tags(dataset, spec)


class CogBody(TiffBody):
    """A COG as compressed blocks."""

    cog = True


class EnviBody:
    """An ENVI image, line-interleaved, written in place."""

    failures: tuple[type[Exception], ...] = (OSError, GeofuseError)

    def __init__(self, work: Path, final: Path, spec: OutputSpec) -> None:
        """Choose the name of the data file.

        Raises
        ------
        OutputError
            If the header would replace that of another image.
        """
        self._spec, self._final, self._work = spec, final, work
        self._path = work / final.name
        self._line = len(spec.bands) * spec.width * np.dtype(spec.dtype).itemsize
        header = final.with_suffix(".hdr")
        if header == final:
            raise OutputError(f"{final}: name the ENVI data file, not its header")
        if header.exists() and not final.exists():
            raise OutputError(f"{final}: {header.name} in that folder belongs to another image; choose another name")

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a block: a line."""
        return 1, self._spec.width

    @property
    def least_bytes(self) -> int:
        """Size of the data file."""
        return self._spec.raw_bytes

    def begin(self) -> None:
        """Create data file and header."""
        if not self._path.exists():
            self._create()

    def store(self, stored: np.ndarray, row: int, col: int) -> dict[str, Any]:
        """Write whole lines."""
        lines = np.ascontiguousarray(stored.transpose(1, 0, 2))
        with open(self._path, "r+b") as file:
            file.seek(row * self._line)
            file.write(lines)
        return {"crc": zlib.crc32(lines)}

    def restore(self, window: tuple[int, int, int, int], receipt: Mapping[str, Any]) -> bool:
        """Check that the lines are as they were written."""
        with open(self._path, "rb") as file:
            file.seek(window[0] * self._line)
            return zlib.crc32(file.read(window[2] * self._line)) == receipt["crc"]

    def finish(self, sums: np.ndarray) -> None:
        """Complete the header, verify the image and rename both into place."""
        header = self._path.with_suffix(".hdr")
        metadata.complete_header(header, self._spec)
        self._path.with_name(self._path.name + ".aux.xml").unlink(missing_ok=True)
        check_complete(self._path, self._spec, "ENVI")
        verify(self._path, self._spec, "ENVI", sums)
        publish({self._path: self._final, header: self._final.with_suffix(".hdr")}, self._work)

    def _create(self) -> None:
        """Let GDAL write the header."""
        import rasterio

        spec = self._spec
        place = {"height": spec.height, "width": spec.width, "crs": spec.crs, "transform": spec.transform}
        form = {"count": len(spec.bands), "dtype": spec.dtype, "nodata": spec.nodata_value}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rasterio.open(self._path, "w", driver="ENVI", interleave="bil", **place, **form).close()
