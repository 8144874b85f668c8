"""Standard normal noise by absolute position: the same pixel gets the same number, whatever window it is asked for in.

A counter-based generator (Philox, Salmon et al. 2011) is started afresh for every block of 64 x 64 pixels of every channel; its
key is (seed, stream) and its counter starts at (0, channel, block row, block column). A block is always drawn whole. So the noise
cannot depend on tile order, tile size, the number of workers or a restart.
"""

from __future__ import annotations

import numpy as np

from geofuse.errors import UsageError

BLOCK = 64


def standard_normal(seed: int, stream: int, channels: int, rows: slice | range, cols: slice | range) -> np.ndarray:
    """Draw independent standard normal numbers for a window of the scene.

    Parameters
    ----------
    seed
        The job's seed, from 0 to 2^64 - 1.
    stream
        Tells apart the uses of noise under one seed (say, the steps of a diffusion), from 0 to 2^64 - 1.
    channels
        Number of channels; the noise of channel k does not depend on how many there are.
    rows, cols
        Absolute pixels ``start`` to ``stop`` of the scene, with step 1; :attr:`geofuse.tiling.Window.slices` gives such a pair.

    Returns
    -------
    ndarray (channels, rows, cols) float32
        The value at (channel, row, col) depends on these, the seed and the stream only.

    Raises
    ------
    UsageError
        If the seed, the stream or a position is out of range or a step is not 1.
    """
    for axis in (rows, cols):
        if axis.start is None or axis.stop is None or axis.start < 0 or axis.stop < axis.start or axis.step not in (None, 1):
            raise UsageError(f"noise is drawn for pixels start <= stop, from 0, with step 1; found {axis}")
    if not (0 <= seed < 2**64 and 0 <= stream < 2**64):
        raise UsageError(f"a seed and a stream of noise are from 0 to 2^64 - 1, found seed {seed}, stream {stream}")
    out = np.empty((channels, rows.stop - rows.start, cols.stop - cols.start), np.float32)
    for i in range(rows.start // BLOCK, -(-rows.stop // BLOCK)):
        into_rows, from_rows = _cut(i, rows.start, rows.stop)
        for j in range(cols.start // BLOCK, -(-cols.stop // BLOCK)):
            into_cols, from_cols = _cut(j, cols.start, cols.stop)
            for channel in range(channels):
                out[channel, into_rows, into_cols] = _block(seed, stream, channel, i, j)[from_rows, from_cols]
    return out


def _cut(index: int, start: int, stop: int) -> tuple[slice, slice]:
    """Return where block ``index`` falls in the window and which part of the block that is, along one axis."""
    first, last = max(start, index * BLOCK), min(stop, (index + 1) * BLOCK)
    return slice(first - start, last - start), slice(first - index * BLOCK, last - index * BLOCK)


def _block(seed: int, stream: int, channel: int, i: int, j: int) -> np.ndarray:
    """Draw one whole block, (64, 64) float32. A block uses far fewer numbers than the first counter word can count."""
    bits = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=np.array([0, channel, i, j], np.uint64))
    return np.random.Generator(bits).standard_normal((BLOCK, BLOCK), dtype=np.float32)
