"""A cloud in the MSI: what stands below it comes from the HSI, and nobody else notices."""

import json

import numpy as np
import pytest
import rasterio

import geofuse

CLOUD = (slice(16, 44), slice(24, 52))


@pytest.fixture
def job(make_job):
    """A small pair whose images lie where their grids say."""
    job = make_job().write()
    plain = job.arguments
    job.arguments = lambda output, *more, method="subspace": plain(output, "--coregister", "off", *more, method=method)
    return job


def clouded(job, make):
    """Paste a cloud into the MSI and write its mask; both images written."""
    job.msi[:, CLOUD[0], CLOUD[1]] = 0.9
    job.write()
    mask = np.zeros((1, *job.msi.shape[1:]))
    mask[0, CLOUD[0], CLOUD[1]] = 1
    return make.write(job.folder / "cloud.tif", mask, make.north_up(make.FINE_M), dtype="uint8", scale=1.0, nodata=None)


def inside(shape):
    here = np.zeros(shape, bool)
    here[CLOUD] = True
    return here


def error(values, truth, where):
    assert np.isfinite(values[:, where]).all()
    return float(np.sqrt(((values - truth)[:, where] ** 2).mean()))


@pytest.mark.parametrize("method", ["subspace", "gsa"])
def test_below_a_mask_the_result_is_no_worse_than_the_hsi_and_elsewhere_as_before(job, fuse, make, method):
    before = fuse(job, method=method, name="clear.tif").values
    mask = clouded(job, make)
    bicubic = fuse(job, method="bicubic", name="bicubic.tif").values
    masked = fuse(job, "--mask", mask, method=method).values
    here = inside(job.truth.shape[1:])
    far = ~np.pad(inside(job.truth.shape[1:])[8:-8, 8:-8], 8)
    far[8:52, 16:60] = False
    assert error(masked, job.truth, here) <= 1.001 * error(bicubic, job.truth, here)
    worse = 20 * np.log10(error(masked, job.truth, far) / error(before, job.truth, far))
    assert worse < 0.2


def test_argsdiff_honours_the_mask(job, fuse, make):
    mask = clouded(job, make)
    masked, plain = (
        fuse(job, *more, method="argsdiff", name=n).values
        for more, n in ((("--mask", mask), "m.tif"), (("--change", "off"), "p.tif"))
    )
    here = inside(job.truth.shape[1:])
    assert error(masked, job.truth, here) < error(plain, job.truth, here)


def test_tiles_do_not_show_below_a_mask(job, fuse, make):
    mask = clouded(job, make)
    whole, tiles = (fuse(job, "--mask", mask, "--tile", tile, name=f"{tile}.tif").values for tile in (128, 32))
    assert np.abs(whole - tiles).max() < 0.02 * np.abs(whole).max()


def test_a_run_records_what_it_did_and_writes_the_weights(job, fuse, make):
    job.msi = 1.2 * job.msi
    mask = clouded(job, make)
    done = fuse(job, "--mask", mask, "--write-weights", job.folder / "weights.tif")
    with rasterio.open(done.path) as dataset:
        tags = dataset.tags()
    assert tags["GEOFUSE_MSI_WEIGHT"] == "mask cloud.tif, change" and '"gain": [1.' in tags["GEOFUSE_RADIOMETRY"]
    with rasterio.open(job.folder / "weights.tif") as dataset:
        weight = dataset.read(1)
    assert (weight[CLOUD] == 0).all() and (weight[:, :8] == 1).all()
    assert any("radiometry: gain" in note for note in done.notes)


def test_weights_are_not_written_over_the_result_or_an_input(job, geofuse):
    output = job.folder / "fused.tif"
    same = geofuse(*job.arguments(output, "--write-weights", output))
    assert same.code == 2 and "give each a name of its own" in same.err
    over = geofuse(*job.arguments(output, "--write-weights", job.msi_path))
    assert over.code == 2 and "is an input of this run" in over.err


def test_coregistration_does_not_look_at_what_the_mask_marks(make_job, make):
    """A cloud in the MSI must not move the HSI; on this small scene it does if nothing tells of it."""

    job = make_job().write()
    clear = geofuse.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box", coregister="auto")
    mask = clouded(job, make)
    masked = geofuse.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box", coregister="auto", mask=mask)
    shifts = [np.array(json.loads(pair.attrs["coregistration"])["shift"]) for pair in (clear, masked)]
    assert np.abs(shifts[0] - shifts[1]).max() < 0.05
    assert masked.attrs["output_window"] == clear.attrs["output_window"]
    assert np.isfinite(masked["msi"].values[:, CLOUD[0], CLOUD[1]]).all()  # only co-registration takes it for no data
