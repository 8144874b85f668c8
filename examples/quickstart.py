"""Fuse a pair, look at it, write it: from two files to a picture and a Cloud Optimized GeoTIFF.

    geofuse demo sample
    python examples/quickstart.py sample

reads ``sample/hsi.tif`` and ``sample/msi.tif`` and writes ``sample/fused.tif`` and ``sample/overview.png`` (both images and the
result in natural colours, and spectra of three pixels). Add ``--method subspace`` for a result in seconds.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # pictures go to files; no window is opened
import matplotlib.pyplot as plt
import numpy as np

import geofuse

COLOURS_NM = (655.0, 560.0, 480.0)  # red, green, blue


def nearest(wavelength_nm, wanted_nm):
    """Position of the band nearest to each wanted wavelength."""
    return [int(np.abs(wavelength_nm - nm).argmin()) for nm in wanted_nm]


def colours(image, bands, limits=None):
    """Three bands (0-based) as a picture (y, x, 3), stretched from the 1st to the 99th percentile; white where there is no data."""
    picture = np.moveaxis(image[bands], 0, -1)
    low, high = np.nanpercentile(picture, [1, 99]) if limits is None else limits
    return np.nan_to_num(np.clip((picture - low) / (high - low), 0, 1) ** 0.7, nan=1.0), (low, high)


def draw_images(axes, pair, fused):
    """Draw HSI, MSI and result in natural colours, with one stretch."""
    msi_centres_nm = pair.response.values @ pair.wavelength.values  # each row of the response sums to one
    hsi_bands, msi_bands = nearest(fused.wavelength.values, COLOURS_NM), nearest(msi_centres_nm, COLOURS_NM)
    result, limits = colours(fused.values, hsi_bands)
    pictures = {
        f"hyperspectral: {pair.sizes['band']} bands": colours(pair.hsi.values, hsi_bands, limits)[0],
        f"multispectral: {pair.sizes['band_msi']} bands": colours(pair.msi.values, msi_bands, limits)[0],
        f"fused: {fused.sizes['band']} bands": result,
    }
    west, east, south, north = fused.x.min(), fused.x.max(), fused.y.min(), fused.y.max()
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, extent=(west / 1000, east / 1000, south / 1000, north / 1000), interpolation="nearest")
        axis.set(title=title, xlabel="easting (km)")
    axes[0].set_ylabel("northing (km)")


def draw_spectra(axes, pair, fused):
    """Mark three pixels, from dark to bright, in the last image and draw their spectra, with those of their coarse pixels."""
    brightness = fused.mean("band").values
    seen = np.sort(brightness[np.isfinite(brightness)])
    for share, colour in ((0.05, "tab:blue"), (0.5, "tab:red"), (0.95, "tab:orange")):
        row, col = np.argwhere(brightness == seen[int(share * (len(seen) - 1))])[0]
        fine = fused[:, row, col]
        coarse = pair.hsi.sel(y_hsi=fine.y, x_hsi=fine.x, method="nearest")
        axes[2].plot(fine.x / 1000, fine.y / 1000, "o", markersize=7, markerfacecolor="none", markeredgewidth=2, color=colour)
        label = f"E {float(fine.x):.0f}, N {float(fine.y):.0f}"
        for spectrum, style, name in ((fine, "-", f"fused, {label}"), (coarse, ":", "its coarse pixel")):
            axes[3].plot(*with_gaps(fused.wavelength.values, spectrum.values), style, color=colour, label=name, linewidth=1.2)
    axes[3].set(xlabel="wavelength (nm)", ylabel="value in the HSI's units", title="spectra of the marked pixels")
    axes[3].legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def draw_overview(pair, fused, path):
    """Draw the images above and the spectra below."""
    figure, axes = plt.subplot_mosaic(
        [["hsi", "msi", "fused"], ["spectra"] * 3], figsize=(12, 8.4), height_ratios=[1.25, 1], layout="constrained"
    )
    axes = [axes[name] for name in ("hsi", "msi", "fused", "spectra")]
    draw_images(axes[:3], pair, fused)
    draw_spectra(axes, pair, fused)
    figure.savefig(path, dpi=90)
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
    parser.add_argument("--method", default="argsdiff", help="argsdiff (default), subspace or another that geofuse run takes")
    arguments = parser.parse_args()
    folder = arguments.folder

    pair = geofuse.open_pair(folder / "hsi.tif", folder / "msi.tif", srf=arguments.srf)
    fused = pair.fusion.fuse(arguments.method).compute()  # or pair.fusion.argsdiff(), pair.fusion.subspace(), ...

    geofuse.write_scene(fused, folder / "fused.tif")
    draw_overview(pair, fused, folder / "overview.png")
    print(f"wrote {folder / 'fused.tif'} and {folder / 'overview.png'}")


if __name__ == "__main__":
    main()
