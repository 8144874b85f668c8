"""No data: where the result has it follows from the inputs' masks alone, and what lies under a mask never matters."""

import numpy as np
import pytest
import rasterio

METHODS = ("argsdiff", "subspace", "bicubic")


def holes(job):
    """Cut holes into both images; return where the result must have no data.

    HSI: coarse pixel (3, 4) lacks every band, (6, 2) only band 5, and (12:16, 17:) is a missing corner. MSI: a block of pixels
    lacks every band, a single pixel only the second.
    """
    missing = np.zeros(job.msi.shape[1:], bool)
    job.hsi[:, 3, 4] = np.nan
    job.hsi[:, 12:, 17:] = np.nan
    job.hsi[5, 6, 2] = np.nan
    job.msi[:, 30:37, 41:53] = np.nan
    job.msi[1, 9, 33] = np.nan
    missing[12:16, 16:20] = missing[48:, 68:] = missing[30:37, 41:53] = missing[9, 33] = True
    return missing


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tiles", [(), ("--tile", "16")], ids=["one tile", "tiles"])
def test_no_data_of_the_result_follows_from_the_masks(job, fuse, method, tiles):
    missing = holes(job)
    fused = fuse(job.write(), *tiles, method=method)
    np.testing.assert_array_equal(np.isnan(fused.values), np.broadcast_to(missing, fused.values.shape))


@pytest.mark.parametrize("method", METHODS)
def test_what_lies_under_a_mask_does_not_matter(job, fuse, method):
    holes(job)
    expected = fuse(job.write(), "--tile", "32", method=method)
    if method != "bicubic":  # it treats each band by itself, so what the other bands hold there is no garbage
        job.hsi[np.arange(41) != 5, 6, 2] = 3.0
    job.msi[[0, 2, 3], 9, 33] = 3.0
    found = fuse(job.write(), "--tile", "32", method=method, name="garbage.tif")
    elsewhere = np.ones(expected.stored.shape[1:], bool)
    elsewhere[24:28, 8:12] = False
    np.testing.assert_array_equal(found.stored[:, elsewhere], expected.stored[:, elsewhere])


def test_every_way_to_say_no_data_gives_the_same_bytes(job, fuse, make):
    holes(job)
    job.hsi[:, 6, 2] = job.msi[:, 9, 33] = np.nan
    values = fuse(job.write()).stored
    nothing = {"nodata": None, "dtype": "float32", "scale": 1.0}
    for image, size, path, nm in (
        (job.hsi, make.RATIO * make.FINE_M, job.hsi_path, make.NM),
        (job.msi, make.FINE_M, job.msi_path, None),
    ):
        rounded = np.where(np.isfinite(image), np.rint(np.nan_to_num(image) / 1e-4) * 1e-4, 0.777).astype(np.float32)
        make.write(path, rounded, make.north_up(size), nm=nm, **nothing)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.isfinite(image[0]))
    masked = fuse(job, "--dtype", "int16", "--scale", "0.0001", name="masked.tif").stored
    gone = values[0] == make.NODATA
    np.testing.assert_array_equal(masked[0] == np.iinfo("int16").min, gone)
    assert np.abs(masked[:, ~gone].astype(int) - values[:, ~gone]).max() <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_inside_count_as_no_data(job, fuse, make, method, bad):
    missing = holes(job)
    for image, path, size, nm in ((job.hsi, job.hsi_path, 4, make.NM), (job.msi, job.msi_path, 1, None)):
        values = np.where(np.isfinite(image), image, bad)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(values),
            height=values.shape[1],
            width=values.shape[2],
            dtype="float32",
            crs=make.CRS,
            transform=make.north_up(size * make.FINE_M),
        ) as dataset:
            dataset.write(values.astype("float32"))
            for i, centre in enumerate([] if nm is None else nm, 1):
                dataset.update_tags(i, wavelength=f"{centre:.4f}", wavelength_units="Nanometers", fwhm="11.23")
    fused = fuse(job, method=method)
    assert fused.profile["dtype"] == "float32"
    np.testing.assert_array_equal(np.isnan(fused.stored), np.broadcast_to(missing, fused.stored.shape))
    assert np.isfinite(fused.stored[:, ~missing]).all()


def test_a_hole_does_not_darken_or_brighten_what_is_around_it(make_job, fuse):
    job = make_job()
    whole = fuse(job.write(), "--dtype", "float32").stored
    missing = holes(job)
    cut = fuse(job.write(), "--dtype", "float32", name="cut.tif").stored
    error = np.abs(cut - whole)[:, ~missing]
    assert error.mean() < 0.02 * whole.std() and error.max() < 0.5 * whole.std()


def test_bands_of_the_msi_that_are_not_used_do_not_matter(job, fuse):
    three = ("--msi-bands", "blue,green,nir")
    job.msi, fourth = job.msi[[0, 1, 3]], job.msi[[2]]
    expected = fuse(job.write(), *three)
    job.msi = np.concatenate([job.msi, np.where(fourth > fourth.mean(), 3.0, np.nan)])
    job.msi_changes = {"transform": job.grid(1)}
    found = fuse(job.write(), *three[:1], three[1] + ",-", name="more.tif")
    np.testing.assert_array_equal(found.stored, expected.stored)
