"""Fuse a pair, look at it, write it: from two files to a picture and a Cloud Optimized GeoTIFF.

    geofuse demo sample
    python examples/quickstart.py sample

reads ``sample/hsi.tif`` and ``sample/msi.tif`` and writes ``sample/fused.tif``, ``sample/quicklook.png`` (both images and the
result in natural colours) and ``sample/spectra.png`` (spectra of three pixels). Add ``--method subspace`` for a result in seconds.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files; no window is opened
import matplotlib.pyplot as plt
import numpy as np

import geofuse
from geofuse.io import write_scene

COLOURS_NM = (655.0, 560.0, 480.0)  # red, green, blue


def nearest(wavelength_nm, wanted_nm):
    """Position of the band nearest to each wanted wavelength."""
    return [int(np.abs(wavelength_nm - nm).argmin()) for nm in wanted_nm]


def colours(image, bands, limits=None):
    """Three bands (0-based) as a picture (y, x, 3), stretched from the 1st to the 99th percentile; white where there is no data."""
    picture = np.moveaxis(image[bands], 0, -1)
    low, high = np.nanpercentile(picture, [1, 99]) if limits is None else limits
    return np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1) ** 0.7, nan=1.0), (low, high)


def draw_quicklook(pair, msi_centres_nm, fused, path):
    """Draw HSI, MSI and result side by side in natural colours."""
    hsi_bands, msi_bands = nearest(fused.wavelength.values, COLOURS_NM), nearest(msi_centres_nm, COLOURS_NM)
    result, limits = colours(fused.values, hsi_bands)
    pictures = {
        f"hyperspectral: {pair.sizes['band']} bands": colours(pair.hsi.values, hsi_bands, limits)[0],
        f"multispectral: {pair.sizes['band_msi']} bands": colours(pair.msi.values, msi_bands, limits)[0],
        f"fused: {fused.sizes['band']} bands": result,
    }
    west, east, south, north = fused.x.min(), fused.x.max(), fused.y.min(), fused.y.max()
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), sharex=True, sharey=True, layout="constrained")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, extent=(west / 1000, east / 1000, south / 1000, north / 1000), interpolation="nearest")
        axis.set(title=title, xlabel="easting (km)")
    axes[0].set_ylabel("northing (km)")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_spectra(pair, fused, path):
    """Draw the result's spectra of three pixels, from dark to bright, with what the HSI's coarse pixel there holds."""
    brightness = fused.mean("band").values
    seen = np.sort(brightness[np.isfinite(brightness)])
    figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for share, colour in ((0.05, "tab:blue"), (0.5, "tab:green"), (0.95, "tab:orange")):
        row, col = np.argwhere(brightness == seen[int(share * (len(seen) - 1))])[0]
        fine = fused[:, row, col]
        coarse = pair.hsi.sel(y_hsi=fine.y, x_hsi=fine.x, method="nearest")
        label = f"E {float(fine.x):.0f}, N {float(fine.y):.0f}"
        for spectrum, style, name in ((fine, "-", f"fused, {label}"), (coarse, ":", "its coarse pixel")):
            axis.plot(*with_gaps(fused.wavelength.values, spectrum.values), style, color=colour, label=name, linewidth=1.2)
    axis.set(xlabel="wavelength (nm)", ylabel="value in the HSI's units")
    axis.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def with_gaps(wavelength_nm, spectrum):
    """Sort a spectrum by wavelength and break the line where bands are missing."""
    order = np.argsort(wavelength_nm)
    nm, values = wavelength_nm[order], spectrum[order]
    gaps = np.flatnonzero(np.diff(nm) > 4 * np.median(np.diff(nm))) + 1
    return np.insert(nm, gaps, np.nan), np.insert(values, gaps, np.nan)


def main():
    """Fuse the pair in a folder."""
    parser = argparse.ArgumentParser(description="Fuse hsi.tif and msi.tif of a folder, draw and write the result.")
    parser.add_argument("folder", type=Path, help="holds hsi.tif and msi.tif, such as 'geofuse demo' writes; results go there too")
    parser.add_argument("--srf", default="landsat8", help="sensor that took msi.tif (default: landsat8)")
    parser.add_argument("--method", default="argsdiff", help="argsdiff (default), subspace or bicubic")
    arguments = parser.parse_args()
    folder = arguments.folder

    pair = geofuse.open_pair(folder / "hsi.tif", folder / "msi.tif", srf=arguments.srf)
    fused = pair.fusion.fuse(arguments.method).compute()  # or pair.fusion.argsdiff(), pair.fusion.subspace(), ...

    write_scene(fused, folder / "fused.tif")
    centres_nm = pair.response.values @ pair.wavelength.values  # each row of the response sums to one
    draw_quicklook(pair, centres_nm, fused, folder / "quicklook.png")
    draw_spectra(pair, fused, folder / "spectra.png")
    print(f"wrote {folder / 'fused.tif'}, {folder / 'quicklook.png'} and {folder / 'spectra.png'}")


if __name__ == "__main__":
    main()
