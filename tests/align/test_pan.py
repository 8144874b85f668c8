"""Claims about a panchromatic band that comes without a response."""

import dask.array as da
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

import geofuse
from geofuse.align import make_pair
from geofuse.align.pan import _blur, estimate_pan_response
from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError, UsageError
from geofuse.sensors import Psf
from geofuse_cli.commands.run import command

GAUSSIAN = Psf("gaussian", 1.0)


def images(weights, side=96, ratio=4, psf=GAUSSIAN, noise=0.002, seed=0):
    """A coarse image and the panchromatic band that sees it with ``weights``."""
    rng = np.random.default_rng(seed)
    weights = np.asarray(weights, np.float32)
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(rng.normal(0, 12) * y + rng.normal(0, 12) * x + rng.uniform(0, 6)) for _ in range(3 * len(weights))]
    fine = 0.4 + 0.06 * np.stack(waves).reshape(len(weights), 3, side, side).sum(axis=1).astype(np.float32)
    hsi = SpatialOperator(psf, ratio, side, side).forward(fine)
    pan = np.tensordot(weights, fine, 1)[None]
    return hsi + rng.normal(0, noise, hsi.shape).astype(np.float32), pan + rng.normal(0, noise, pan.shape).astype(np.float32)


def estimate(hsi, pan, psf=GAUSSIAN, ratio=4):
    return estimate_pan_response(da.from_array(hsi), da.from_array(pan), psf, ratio)


@pytest.mark.parametrize("gain", [1.0, 0.02, 350.0])
def test_the_response_and_its_gain_are_recovered(gain):
    weights = np.array([0.1, 0.3, 0.0, 0.4, 0.2])
    hsi, pan = images(weights)
    found = estimate(hsi, pan * np.float32(gain))
    assert found.matrix.shape == (1, 5) and found.matrix.dtype == np.float64
    assert np.allclose(found.matrix[0] / gain, weights, atol=0.02) and abs(found.matrix.sum() / gain - 1) < 0.005
    assert found.explained > 0.99 and found.n_pixels == 24 * 24
    assert "weights add up to" in found.note and "doubt" not in found.note and "least squares on 576" in found.source


def test_weights_are_never_negative():
    hsi, pan = images([0.5, -0.2, 0.5, 0.2])
    assert (estimate(hsi, pan).matrix >= 0).all()


def test_more_bands_than_pixels_still_give_an_answer():
    hsi, pan = images(np.full(200, 1 / 200), side=32)
    found = estimate(hsi, pan)
    assert np.isfinite(found.matrix).all() and abs(found.matrix.sum() - 1) < 0.02


def test_no_data_takes_no_part():
    hsi, pan = images([0.1, 0.5, 0.4])
    expected = estimate(hsi, pan)
    hsi[1, 2:5, 7], pan[0, 40:70, 40:70] = np.nan, np.nan
    found = estimate(hsi, pan)
    assert found.n_pixels < expected.n_pixels and np.allclose(found.matrix, expected.matrix, atol=0.02)


@pytest.mark.parametrize("ratio", [2, 3, 4, 5])
@pytest.mark.parametrize("psf", [GAUSSIAN, Psf("bicubic"), Psf("box"), Psf("gaussian", 0.2)], ids=lambda psf: psf.label)
def test_its_blur_is_the_spatial_operator_but_for_the_border(psf, ratio):
    image = np.random.default_rng(1).uniform(size=(12 * ratio, 15 * ratio))
    expected = SpatialOperator(psf, ratio, *image.shape).forward(image)
    assert np.allclose(_blur(image, psf, ratio)[2:-2, 2:-2], expected[2:-2, 2:-2])


def test_at_most_sixteen_blocks_are_read():
    hsi, pan = images([0.3, 0.7], side=192)
    read = []

    def load(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(pan, chunks=(1, 16, 16)).map_blocks(load, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    found = estimate_pan_response(da.from_array(hsi, chunks=(2, 8, 8)), lazy, GAUSSIAN, 4)
    assert len(set(read)) == 16 and max(c[1] for c in read) == 11 and abs(found.matrix.sum() - 1) < 0.02


def test_images_that_do_not_go_together_are_refused():
    hsi, pan = images([0.3, 0.7])
    with pytest.raises(InputError, match="grows with no band of the HSI"):
        estimate(hsi, -pan)
    with pytest.raises(InputError, match="share 0 coarse pixels"):
        estimate(hsi, np.full_like(pan, np.nan))


def test_a_poor_fit_is_said():
    hsi, pan = images([0.3, 0.7])
    assert "check that both show one place" in estimate(hsi, pan[:, ::-1, ::-1].copy()).note


def test_a_pair_with_a_panchromatic_band_needs_neither_response_nor_wavelengths(build):
    hsi, pan = images(np.full(8, 0.125), side=48)
    transform = build.north_up(300000.0, 4000000.0, 40.0), build.north_up(300000.0, 4000000.0, 10.0)
    pair = make_pair(build.scene(hsi, transform[0]), build.scene(pan, transform[1]), srf=None)
    assert pair.response.shape == (1, 8) and (pair.response.values >= 0).all() and abs(pair.response.values.sum() - 1) < 0.01
    assert np.isnan(pair.wavelength.values).all()
    assert "estimated" in pair.attrs["srf"] and "estimated from the images" in pair.attrs["srf_source"]
    assert any(note.startswith("response: estimated") for note in pair.attrs["notes"])
    fused = pair.fusion.brovey()
    assert fused.shape == (8, 48, 48) and np.isfinite(fused.values).all()
    same = build.scene(hsi, transform[0]).fusion.gsa(build.scene(pan, transform[1]))
    assert same.shape == fused.shape


def test_wavelengths_are_kept_where_there_are_some(build):
    pair = make_pair(build.hsi(), build.msi(n_bands=1), srf=None)
    assert np.array_equal(pair.wavelength.values, build.wavelengths)


def test_several_bands_need_a_response(build):
    with pytest.raises(UsageError, match="the MSI m.tif has 3 bands, so --srf is needed"):
        make_pair(build.hsi(), build.msi(source="m.tif"), srf=None)
    with pytest.raises(UsageError, match="--msi-bands names bands of a sensor"):
        make_pair(build.hsi(), build.msi(n_bands=1), srf=None, msi_bands="B8")


def write(path, values, size):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype="uint16",
        crs="EPSG:32633",
        transform=rasterio.transform.from_origin(300000, 4000000, size, size),
    ) as file:
        file.write(np.round(values * 10000).astype("uint16"))
    return path


@pytest.mark.parametrize("method", ["brovey", "gsa", "glp", "sfim", "subspace", "bicubic"])
def test_geofuse_run_sharpens_files_with_a_panchromatic_band(tmp_path, method):
    hsi, pan = images([0.1, 0.3, 0.4, 0.2], side=64)
    ms, fine, out = write(tmp_path / "ms.tif", hsi, 40), write(tmp_path / "pan.tif", pan, 10), tmp_path / "out.tif"
    result = CliRunner().invoke(command, [str(ms), str(fine), "--method", method, "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "response estimated" in result.output
    with rasterio.open(out) as file, rasterio.open(fine) as reference:
        assert (file.count, file.shape, file.dtypes[0]) == (4, (64, 64), "uint16")
        assert file.transform == reference.transform and file.crs == reference.crs
        assert "estimated from the images" in file.tags()["GEOFUSE_SRF_SOURCE"]
        values = file.read() / 10000
    assert abs(values.mean() - hsi.mean()) < 0.01
    assert np.isnan(geofuse.open_scene(out).wavelength.values).all()


def test_geofuse_run_asks_for_the_response_of_several_bands(tmp_path):
    hsi, _ = images([0.2] * 5, side=64)
    ms, fine = write(tmp_path / "hsi.tif", hsi, 40), write(tmp_path / "msi.tif", np.full((3, 64, 64), 0.4), 10)
    result = CliRunner().invoke(command, [str(ms), str(fine), "-o", str(tmp_path / "out.tif")])
    assert isinstance(result.exception, UsageError) and "--srf is needed" in str(result.exception)
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(("scene", "coarse"), [("worldview2", "ms"), ("ikonos", "ms"), ("paris", "hsi")])
def test_real_panchromatic_bands_are_explained(shared_data, scene, coarse):
    files = (shared_data / "scenes" / f"{scene}-{part}.tif" for part in (coarse, "pan"))
    pair = geofuse.open_pair(*files, srf=None)
    explained = next(note for note in pair.attrs["notes"] if note.startswith("response:"))
    assert float(explained.split("explains ")[1].split("%")[0]) > 90
