"""How far the MSI is trusted: masks on any grid, change found where it is and nowhere else."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.align import make_pair
from geofuse.align.trust import add_trust, change_weight, compare, save_weights
from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError, UsageError
from geofuse.sensors import Psf

CORNER = (300000.0, 4000000.0)


def patches(height=160, width=160, seed=0):
    """Two spectra (30 bands) mixed by patches, float64."""
    rng = np.random.default_rng(seed)
    nm = np.linspace(0, 3, 30)
    a = rng.uniform(0.1, 0.9, (height // 8, width // 8)).repeat(8, 0).repeat(8, 1)
    return (0.3 + 0.2 * np.sin(nm))[:, None, None] * a + (0.3 + 0.2 * np.cos(nm))[:, None, None] * (1 - a)


@pytest.fixture(scope="module")
def pair_of(build, rgb):
    """Make a pair of 40 x 40 coarse pixels, its MSI changed by a function."""
    z = patches()
    rng = np.random.default_rng(1)
    coarse = SpatialOperator(Psf("bicubic"), 4, 160, 160).forward(z)
    hsi = build.scene(
        coarse + 0.003 * rng.standard_normal(coarse.shape), build.north_up(*CORNER, 40.0), wavelengths=build.wavelengths
    )
    ones = build.scene(np.ones((3, 160, 160)), build.north_up(*CORNER, 10.0))
    matrix = make_pair(hsi, ones, srf=rgb, psf="bicubic")["response"].values
    fine = np.einsum("ck,kyx->cyx", matrix, z)
    fine = fine + 0.003 * rng.standard_normal(fine.shape)

    def make(change=lambda y: y):
        return make_pair(hsi, build.scene(change(fine.copy()), build.north_up(*CORNER, 10.0)), srf=rgb, psf="bicubic")

    return make


def cloud(y):
    y[:, 60:100, 20:70] = 1.2
    return y


def write_mask(path, values, transform, crs="EPSG:32633", nodata=None):
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform, nodata=nodata) as dataset:
        dataset.write(values.astype("uint8"), 1)
    return path


def test_images_that_agree_are_trusted_wholly(pair_of):
    assert (change_weight(*compare(pair_of())) == 1).all()
    assert "msi_weight" not in add_trust(pair_of(), change="auto")


def test_a_cloud_loses_all_weight_and_what_is_far_from_it_none(pair_of):
    pair = add_trust(pair_of(cloud), change="auto")
    weight = pair["msi_weight"].values
    assert (weight[62:98, 22:68] == 0).all()
    far = np.ones((160, 160), bool)
    far[44:116, 4:86] = False
    assert (weight[far] == 1).all()
    assert "contradict each other" in " ".join(pair.attrs["notes"]) and pair.attrs["msi_weight_source"] == "change"


def test_a_single_bright_target_is_no_change(pair_of):
    def target(y):
        y[:, 80:84, 80:84] = 1.5
        return y

    assert (change_weight(*compare(pair_of(target))) > 0.9).mean() > 0.99


def test_a_mask_on_the_grid_is_taken_pixel_by_pixel(pair_of, tmp_path):
    bad = np.zeros((160, 160), bool)
    bad[10:20, 30:37] = True
    path = write_mask(tmp_path / "mask.tif", bad, Affine(10, 0, CORNER[0], 0, -10, CORNER[1]))
    pair = add_trust(pair_of(), path)
    np.testing.assert_array_equal(pair["msi_weight"].values == 0, bad)
    assert "mask mask.tif: the MSI is not used in 0.27% of its pixels" in " ".join(pair.attrs["notes"])


def test_a_coarser_mask_elsewhere_and_in_another_crs_falls_on_the_same_ground(pair_of, tmp_path):
    from rasterio.warp import transform

    values = np.zeros((20, 30), bool)
    values[5:8, 6:11] = True
    path = write_mask(tmp_path / "coarse.tif", values, Affine(40, 0, CORNER[0] - 80, 0, -40, CORNER[1] + 40))
    weight = add_trust(pair_of(), path)["msi_weight"].values
    expected = np.zeros((160, 160), bool)
    expected[4 * 4 : 7 * 4, 4 * 4 : 9 * 4] = True
    np.testing.assert_array_equal(weight == 0, expected)
    (west, east), (south, north) = transform(
        "EPSG:32633", "EPSG:4326", [CORNER[0] + 400, CORNER[0] + 800], [CORNER[1] - 800, CORNER[1] - 400]
    )
    degrees = Affine((east - west) / 40, 0, west, 0, -(north - south) / 40, north)
    path = write_mask(tmp_path / "degrees.tif", np.ones((40, 40)), degrees, "EPSG:4326")
    weight = add_trust(pair_of(), path)["msi_weight"].values
    assert (weight[43:77, 43:77] == 0).all() and (weight == 0).sum() < 45 * 45


def test_no_data_of_a_mask_means_trusted_and_two_reasons_add_up(pair_of, tmp_path):
    values = np.zeros((160, 160))
    values[:5] = 255
    values[150:] = 1
    path = write_mask(tmp_path / "mask.tif", values, Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), nodata=255)
    pair = add_trust(pair_of(cloud), path, "auto")
    weight = pair["msi_weight"].values
    assert (weight[:5] == 1).all() and (weight[150:] == 0).all() and (weight[62:98, 22:68] == 0).all()
    assert pair.attrs["msi_weight_source"] == "mask mask.tif, change"


def test_masks_that_cannot_be_meant_are_refused(pair_of, tmp_path):
    whole = write_mask(tmp_path / "all.tif", np.ones((160, 160)), Affine(10, 0, CORNER[0], 0, -10, CORNER[1]))
    with pytest.raises(InputError, match="leaves nothing of the MSI"):
        add_trust(pair_of(), whole)
    apart = write_mask(tmp_path / "apart.tif", np.ones((16, 16)), Affine(10, 0, CORNER[0] + 5000, 0, -10, CORNER[1]))
    with pytest.raises(InputError, match="does not overlap the images"):
        add_trust(pair_of(), apart)
    with pytest.raises(UsageError, match="unknown change weight 'on'"):
        add_trust(pair_of(), change="on")


def test_written_weights_are_those_of_the_pair(pair_of, tmp_path):
    pair = add_trust(pair_of(cloud), change="auto")
    save_weights(pair, tmp_path / "weights.tif")
    with rasterio.open(tmp_path / "weights.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), pair["msi_weight"].values)
        assert tuple(dataset.transform)[:6] == tuple(pair.attrs["output_transform"])
