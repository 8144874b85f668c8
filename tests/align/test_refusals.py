"""Claims about what cannot be paired: one line that says what was found, what was expected and what to do."""

import numpy as np
import pytest
from affine import Affine

from geofuse.align import make_pair
from geofuse.errors import GeofuseError, InputError


def refused(hsi, msi, srf, message, **options):
    with pytest.raises(GeofuseError, match=message) as caught:
        make_pair(hsi, msi, srf=srf, **options)
    assert "\n" not in str(caught.value)


def test_no_crs(build, rgb):
    refused(build.hsi(crs=None, source="a.tif"), build.msi(), rgb, "HSI a.tif has no CRS; .*gdal_edit")
    refused(build.hsi(), build.msi(crs=None), rgb, "the MSI has no CRS")


def test_a_rotated_grid(build, rgb):
    rotated = Affine.translation(300000, 4000000) @ Affine.rotation(71) @ Affine.scale(40, -40)
    hsi = build.scene(build.hsi().values, rotated, wavelengths=build.wavelengths)
    refused(hsi, build.msi(), rgb, "rotated by 71 degrees.*gdalwarp")
    refused(build.hsi(), build.scene(build.msi().values, rotated), rgb, "the MSI is rotated")


def test_no_overlap(build, rgb):
    refused(build.hsi(x=500000.0), build.msi(), rgb, "do not overlap: the HSI covers x 500000.*the MSI x 300000")


def test_swapped_images(build, rgb):
    refused(build.msi(), build.hsi(), rgb, "the HSI has 3 bands and the MSI 30; they look swapped")
    refused(build.hsi(size=5.0, height=96, width=80), build.msi(), rgb, "look swapped")


def test_an_msi_with_another_band_count_than_the_response(build, rgb):
    refused(build.hsi(), build.msi(n_bands=5), rgb, "5 bands")


def test_an_hsi_without_wavelengths(build, rgb):
    refused(build.hsi(wavelengths=None), build.msi(), rgb, "no wavelengths.*--wavelengths file.csv")
    partly = np.where(np.arange(30) > 27, np.nan, build.wavelengths)
    refused(build.hsi(wavelengths=partly), build.msi(), rgb, "no wavelength for bands 29-30")
    refused(build.hsi(), build.msi(), rgb, "2 wavelengths.*30 bands", wavelengths=[400, 500])


def test_all_no_data(build, rgb):
    def empty(scene):
        return scene.where(False)

    refused(empty(build.hsi(source="h.tif")), build.msi(), rgb, "HSI h.tif holds no data")
    refused(build.hsi(), empty(build.msi()), rgb, "MSI has no pixel with data")


def test_no_data_where_the_images_overlap(build, rgb):
    hsi = build.hsi(height=24)
    refused(hsi.where(hsi.y < 4000000 - 12 * 40), build.msi(), rgb, "holds no data where the images overlap")


def test_a_response_that_the_hsi_does_not_cover(build):
    with pytest.raises(InputError):
        make_pair(build.hsi(), build.msi(n_bands=7), srf="landsat8")


def test_a_psf_kernel_that_does_not_fit_the_ratio(build, rgb, tmp_path):
    np.save(tmp_path / "psf.npy", np.ones((5, 5)))
    refused(build.hsi(), build.msi(), rgb, "5 x 5 fine pixels; ratio 4 needs even", psf=str(tmp_path / "psf.npy"))


def test_something_that_is_no_scene(build, rgb):
    refused(build.hsi()[:, 0], build.msi(), rgb, "expected non-empty")
