"""``--uncertainty N``: a second image from the same pass over the tiles, and the same numbers from the accessor."""

import numpy as np
import pytest
import rasterio

import geofuse as library


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.profile, dataset.tags(), dataset.tags(3)


def test_the_second_image_has_the_form_and_the_mask_of_the_first(job, fuse):
    job.hsi[:, 3, 4] = job.msi[:, 50:, 70:] = np.nan
    fused = fuse(job.write(), "--uncertainty", "8")
    spread, profile, tags, band = read(fused.path.with_name(f"{fused.path.stem}-uncertainty.tif"))
    first = read(fused.path)
    same = ("crs", "transform", "width", "height", "count", "driver", "interleave")
    assert all(profile[key] == first[1][key] for key in same) and profile["dtype"] == "float32" and np.isnan(profile["nodata"])
    assert band == first[3]
    assert {**first[2], "GEOFUSE_UNCERTAINTY": tags["GEOFUSE_UNCERTAINTY"]} == tags and "8 posterior samples" in str(tags)
    assert np.array_equal(np.isnan(spread), np.isnan(fused.values))
    valid = ~np.isnan(spread)
    assert (spread[valid] > 0).all()
    assert np.isfinite(fused.values[valid]).all()


def test_the_result_itself_is_the_same_with_and_without_and_so_are_tiles(job, fuse):
    plain, both = fuse(job), fuse(job, "--uncertainty", "2", name="both.tif")
    assert plain.stored.tobytes() == both.stored.tobytes()
    one = fuse(job, "--uncertainty", "2", name="one.tif")
    tiled = fuse(job, "--uncertainty", "2", "--tile", "32", name="tiled.tif")
    spreads = [read(result.path.with_name(f"{result.path.stem}-uncertainty.tif"))[0] for result in (both, one, tiled)]
    assert spreads[0].tobytes() == spreads[1].tobytes()
    np.testing.assert_allclose(spreads[2], spreads[0], rtol=0.1)


def test_the_summary_says_where_and_how_it_was_scaled(job, fuse):
    place = job.folder / "sigma.tif"
    told = fuse(job, "--uncertainty", "4", "--uncertainty-output", place, method="argsdiff").uncertainty
    assert told["output"] == str(place) and place.exists() and told["samples"] == 4
    assert told["from_coarse_to_fine"] >= 1 and told["for_few_samples"] > 1


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("bicubic", ("--uncertainty", "4"), "no uncertainty; use subspace, or argsdiff with preset fast or balanced"),
        ("subspace", ("--uncertainty-output", "s.tif"), "no samples are; ask for some with --uncertainty"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(job, geofuse, method, options, words):
    done = geofuse(*job.arguments(job.folder / "fused.tif", *options, method=method))
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    assert not (job.folder / "fused.tif").exists()


def test_the_accessor_returns_both_as_variables_of_one_dataset(job, fuse):
    expected = fuse(job, "--dtype", "float32", "--uncertainty", "4", "--tile", "32")
    pair = library.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box")
    found = pair.fusion.subspace(uncertainty=4, tile=32)
    assert set(found.data_vars) == {"fused", "uncertainty"} and found.uncertainty.dims == ("band", "y", "x")
    assert found.uncertainty.rio.crs.to_epsg() == 32633 and "wavelength" in found.uncertainty.coords
    spread = read(expected.path.with_name(f"{expected.path.stem}-uncertainty.tif"))[0]
    np.testing.assert_allclose(found.fused.values, expected.stored, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty.values, spread, rtol=2e-5, atol=1e-6)
