"""The DFC2018 Houston scenes, from the contest's files to fused tiles.

Give the folder that holds the contest's files. Without one, a small made-up city with the same names and layout is fused in its
place: 128 x 128 hyperspectral pixels of 1 m in 50 bands, and four RGB tiles of 0.125 m.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

import geofuse

HSI = "2018_IEEE_GRSS_DFC_HSI_TR"
WAVELENGTH_NM = np.linspace(374.4, 1047.1, 48)  # of the campaign's CASI
LEFT, BOTTOM = 272056, 3289689  # lower left corner of the training area, UTM zone 15 north, NAD83
TILES = {(0, 0): (272056, 3290290), (0, 1): (272652, 3290290), (1, 0): (272056, 3289689), (1, 1): (272652, 3289689)}
RATIO = 4  # HSI pixels are so many pixels of the sample scene; the RGB is twice as fine as that


def geofuse_command(*arguments):
    """Show a command, run it, and stop if it fails."""
    texts = [str(argument) for argument in arguments]
    print(f"\n$ geofuse {shlex.join(texts)}", flush=True)
    subprocess.run([sys.executable, "-c", "from geofuse_cli.main import main; main()", *texts], check=True)


def make_city(folder, size):
    """Write a made-up scene under the contest's names: ``HSI/`` and ``VHR - RGB/``, as phase 1 was laid out."""
    geofuse_command("demo", folder / "sample", "--size", size)
    sample = geofuse.open_scene(folder / "sample" / "reference.tif")
    truth, nm = sample.values, sample.wavelength.values
    casi = np.stack([np.interp(WAVELENGTH_NM, nm, np.eye(nm.size)[i]) for i in range(nm.size)], axis=1)
    write_hsi(folder / "HSI", np.tensordot(casi, truth, 1))
    bells = np.stack([np.exp(-4 * np.log(2) * ((nm - centre) / 80) ** 2) for centre in (640, 550, 460)])
    write_tiles(folder / "VHR - RGB", np.tensordot(bells / bells.sum(axis=1, keepdims=True), truth, 1))


def write_hsi(folder, fine):
    """Average the bands to 1 m and write them as the contest did: ENVI without suffix, 50 bands, the last two not spectral."""
    folder.mkdir()
    bands, height, width = (n // k for n, k in zip(fine.shape, (1, RATIO, RATIO), strict=True))
    coarse = fine.reshape(bands, height, RATIO, width, RATIO).mean(axis=(2, 4))
    counts = np.zeros((bands + 2, height, width), "uint16")
    counts[:bands] = np.clip(coarse * 10000 * (1 + 0.01 * np.random.default_rng(0).standard_normal(coarse.shape)), 1, 65535)
    counts.tofile(folder / HSI)
    lines = {
        "samples": width,
        "lines": height,
        "bands": bands + 2,
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": 12,
        "interleave": "bsq",
        "byte order": 0,
        "map info": f"{{UTM, 1, 1, {LEFT}, {BOTTOM + height}, 1, 1, 15, North, North America 1983}}",
        "wavelength": "{" + ", ".join(f"{nm:.3f}" for nm in (*WAVELENGTH_NM, 0, 0)) + "}",
        "wavelength units": "Nanometers",
    }
    (folder / f"{HSI}.HDR").write_text("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))


def write_tiles(folder, rgb):
    """Write the RGB, twice as fine, as four tiles named after their lower left corners in Houston."""
    folder.mkdir()
    pixel_m = 1 / (2 * RATIO)
    stored = np.clip(rgb * 500, 1, 255).astype("uint8").repeat(2, axis=1).repeat(2, axis=2)
    height, width = (n // 2 for n in stored.shape[1:])
    top = BOTTOM + 2 * height * pixel_m
    for (row, column), (x, y) in TILES.items():
        grid = Affine(pixel_m, 0, LEFT + column * width * pixel_m, 0, -pixel_m, top - row * height * pixel_m)
        tile = stored[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        profile = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8", "photometric": "RGB"}
        with rasterio.open(folder / f"UH_NAD83_{x}_{y}.tif", "w", crs="EPSG:26915", transform=grid, tiled=True, **profile) as out:
            out.write(tile)


def main():
    """Find or make the files, look at the plan, fuse, and go on as after an interrupt."""
    parser = argparse.ArgumentParser(description="Fuse the DFC2018 Houston scenes, or a made-up city of the same layout.")
    parser.add_argument("folder", type=Path, nargs="?", help="the contest's files; made up if left out")
    parser.add_argument("--out-dir", type=Path, default=Path("houston-fused"), help="folder for the results")
    parser.add_argument("--method", default="subspace", help="subspace (default) or another that geofuse run takes")
    parser.add_argument("--size", type=int, default=512, help="of the made-up city, 64 to 1024, a multiple of 16")
    arguments = parser.parse_args()
    folder, out = arguments.folder, arguments.out_dir
    if folder is None:
        folder = out / "made-up"
        folder.mkdir(parents=True)
        make_city(folder, arguments.size)

    batch = ["batch", "--dfc2018", folder, "--out-dir", out, "--set", f"method={arguments.method}"]
    geofuse_command(*batch, "--dry-run")
    geofuse_command(*batch, "--jobs", 2)
    geofuse_command(*batch, "--jobs", 2, "--resume")  # finds everything done, and does nothing
    for path in sorted(out.glob("UH_NAD83_*_fused.tif")):
        fused = geofuse.open_scene(path)
        bands, height, width = fused.shape
        print(f"{path}: {bands} bands, {width} x {height} pixels of {fused.rio.resolution()[0]:g} m")


if __name__ == "__main__":
    main()
