"""Fuse with a camera that no table lists: its spectral response from a CSV, the imager's point spread function from a file.

    geofuse demo sample
    python examples/your_own_sensor.py sample

takes ``sample/hsi.tif`` and the blue, green, red and near-infrared bands of ``sample/msi.tif``, as if a camera of one's own had
taken these four. It writes, into ``sample/own_sensor/``, that camera's image, the result, and the two tables that are all geofuse
needs to know of an instrument:

``camera.csv``
    First column ``wavelength_nm``, one named column a band. Any sampling, any scale; between the points it is linear.
``psf.csv``
    The weights with which a coarse pixel sees the fine ones, a table on the fine grid, centred on the coarse pixel. Its sides are
    even for an even ratio of pixel sizes, odd for an odd one.

The same on the command line:

    geofuse run hsi.tif camera.tif --srf camera.csv --psf psf.csv -o fused.tif
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files; no window is opened
import matplotlib.pyplot as plt
import numpy as np

import geofuse

BANDS_NM = {"blue": (452, 512), "green": (533, 590), "red": (636, 673), "nir": (851, 879)}  # half-maximum limits of the filters
EDGE_NM = 6.0  # over which a filter opens and closes
RATIO = 4  # of the pixel sizes in the demo


def write_response(path):
    """Write the camera's spectral response, as a laboratory would hand it over."""
    nm = np.arange(430.0, 911.0, 2.0)
    rise = {name: 1 / (1 + np.exp((low - nm) / EDGE_NM * 4)) for name, (low, _) in BANDS_NM.items()}
    fall = {name: 1 / (1 + np.exp((nm - high) / EDGE_NM * 4)) for name, (_, high) in BANDS_NM.items()}
    table = np.column_stack([nm] + [rise[name] * fall[name] for name in BANDS_NM])
    np.savetxt(path, table, fmt="%.5g", delimiter=",", header="wavelength_nm," + ",".join(BANDS_NM), comments="")


def write_psf(path):
    """Write the point spread function: a Gaussian, one coarse pixel wide at half maximum, and a little wider along the track."""
    offset = np.arange(3 * RATIO) - (3 * RATIO - 1) / 2  # fine pixels from the centre of the coarse pixel

    def bell(fwhm):
        return np.exp(-4 * np.log(2) * (offset / fwhm) ** 2)

    np.savetxt(path, np.outer(bell(1.1 * RATIO), bell(1.0 * RATIO)), fmt="%.6f", delimiter=",")


def draw(response, kernel, picture, path):
    """Draw response, point spread function and the result in colours."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for band in response.bands:
        axes[0].plot(band.wavelength_nm, band.response, label=band.name, color={"nir": "tab:purple"}.get(band.name, band.name))
    axes[0].set(title="the camera's response", xlabel="wavelength (nm)")
    axes[0].legend(loc="center", bbox_to_anchor=(0.7, 0.5))
    reach = len(kernel) / 2
    axes[1].imshow(kernel, extent=(-reach, reach, -reach, reach))
    axes[1].add_patch(plt.Rectangle((-RATIO / 2, -RATIO / 2), RATIO, RATIO, fill=False, color="white"))
    axes[1].set(title="PSF; white: one coarse pixel", xlabel="fine pixels")
    axes[2].imshow(picture, interpolation="nearest")
    axes[2].set_title("fused: 1650, 840, 660 nm as RGB")
    axes[2].axis("off")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    """Write the two tables, make the camera's image, fuse and draw."""
    parser = argparse.ArgumentParser(description="Fuse with a spectral response and a point spread function of one's own.")
    parser.add_argument(
        "folder", type=Path, help="holds hsi.tif and msi.tif, such as 'geofuse demo' writes; own_sensor/ is made in it"
    )
    parser.add_argument("--method", default="argsdiff", help="argsdiff (default), subspace or another that geofuse run takes")
    arguments = parser.parse_args()
    out = arguments.folder / "own_sensor"
    out.mkdir(exist_ok=True)
    write_response(out / "camera.csv")
    write_psf(out / "psf.csv")
    geofuse.write_scene(geofuse.open_scene(arguments.folder / "msi.tif").isel(band=slice(1, 5)), out / "camera.tif")

    pair = geofuse.open_pair(arguments.folder / "hsi.tif", out / "camera.tif", srf=out / "camera.csv", psf=str(out / "psf.csv"))
    for note in pair.attrs["notes"]:
        print(note)
    fused = pair.fusion.fuse(arguments.method).compute()
    geofuse.write_scene(fused, out / "fused.tif")

    bands = [int(np.abs(fused.wavelength.values - nm).argmin()) for nm in (1650, 840, 660)]
    picture = np.moveaxis(fused.values[bands], 0, -1)
    low, high = np.nanpercentile(picture, [1, 99])
    picture = np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1), nan=1.0)
    draw(geofuse.load_response(out / "camera.csv"), np.loadtxt(out / "psf.csv", delimiter=","), picture, out / "own_sensor.png")
    print(f"wrote {out / 'fused.tif'} and {out / 'own_sensor.png'}")


if __name__ == "__main__":
    main()
