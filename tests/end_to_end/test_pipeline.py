"""The path as a function: tiles leave no seam, nothing depends on how the work was cut, and progress is reported."""

import numpy as np
import pytest

import geofuse
from geofuse.errors import OutputError, UnknownNameError, UsageError
from geofuse.pipeline import Fusion, FusionSettings, OutputOptions, PairOptions, run, sample_windows

METHODS = ("argsdiff", "subspace", "bicubic")


def fused_rows(pair, method="subspace", **settings):
    fusion = Fusion(pair, FusionSettings(method, **settings))
    fusion.fit()
    return np.concatenate([rows for _, rows in fusion.rows()], axis=1)


def open_pair(job, **options):
    return geofuse.open_pair(job.hsi_path, job.msi_path, srf=job.camera, psf="box", **options)


@pytest.mark.parametrize(("method", "tolerance"), [("subspace", 0.005), ("bicubic", 1e-6)])
def test_tiles_of_64_pixels_differ_from_one_tile_by_less_than_half_a_percent_of_the_signal(make_job, method, tolerance):
    pair = open_pair(make_job(256, 256).write())
    whole, tiled = (fused_rows(pair, method, tile=tile) for tile in (256, 64))
    difference = tiled - whole
    assert np.sqrt(np.mean(difference**2)) < tolerance * whole.std()
    assert np.abs(difference).max() < 10 * tolerance * whole.std()


def border_gradients(image, tile):
    """Mean absolute step across tile borders, and elsewhere."""
    steps = np.abs(np.diff(image, axis=2)).mean((0, 1)), np.abs(np.diff(image, axis=1)).mean((0, 2))
    at_border = [(np.arange(1, len(step) + 1) % tile) == 0 for step in steps]
    return (
        np.concatenate([step[where] for step, where in zip(steps, at_border, strict=True)]).mean(),
        np.concatenate([step[~where] for step, where in zip(steps, at_border, strict=True)]).mean(),
    )


@pytest.mark.parametrize("method", METHODS)
def test_tile_borders_are_no_steeper_than_without_tiles(make_job, method):
    pair = open_pair(make_job(128, 128).write())
    ratios = []
    for tile in (128, 32):
        border, elsewhere = border_gradients(fused_rows(pair, method, tile=tile), 32)
        ratios.append(border / elsewhere)
    assert ratios[1] == pytest.approx(ratios[0], rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_values(job, method):
    pair = open_pair(job)
    np.testing.assert_array_equal(fused_rows(pair, method, tile=32, seed=3), fused_rows(pair, method, tile=32, seed=3))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_returns_finite_values_in_the_hsis_units(job, method, psnr):
    fused = fused_rows(open_pair(job), method)
    assert fused.dtype == np.float32 and np.isfinite(fused).all()
    assert psnr(job.truth, fused) > 15
    np.testing.assert_allclose(fused.mean((1, 2)), job.truth.mean((1, 2)), rtol=0.03)


def test_units_come_back_whatever_they_are(make_job):
    job = make_job()
    reflectance = fused_rows(open_pair(job.write()))
    factor = 400.0
    job.hsi, job.msi = factor * job.hsi, factor * job.msi
    job.hsi_changes |= {"dtype": "float32", "scale": 1.0, "transform": job.grid(4), "nm": job.nm}
    job.msi_changes |= {"dtype": "float32", "scale": 1.0, "transform": job.grid(1)}
    radiance = fused_rows(open_pair(job.write()))
    assert np.abs(radiance / factor - reflectance).max() < 0.02 * reflectance.std()


def test_progress_is_reported_and_ends(job, tmp_path):
    seen = {}
    run(
        job.hsi_path,
        job.msi_path,
        tmp_path / "fused.tif",
        pair_options=PairOptions(job.camera, psf="box"),
        settings=FusionSettings("subspace", tile=16),
        report=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    for stage, steps in seen.items():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps), stage
        assert steps[-1][0] == steps[-1][1], stage
    assert seen["fusing tiles"][-1] == (20, 20)


def test_an_interrupted_run_leaves_the_old_output_as_it_was_and_what_it_has_finished(job, tmp_path):
    output = tmp_path / "fused.tif"
    output.write_bytes(b"old")
    before = sorted(tmp_path.iterdir())

    def stop(stage, done, total):
        if stage == "fusing tiles" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            job.hsi_path,
            job.msi_path,
            output,
            pair_options=PairOptions(job.camera, psf="box"),
            settings=FusionSettings("subspace", tile=16),
            report=stop,
        )
    assert output.read_bytes() == b"old" and sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / ".fused.tif.geofuse"])


@pytest.mark.parametrize("driver", ["COG", "GTiff", "ENVI"])
def test_what_is_written_is_what_the_mosaic_of_all_tiles_holds(make_job, driver):
    job = make_job(200, 300)
    job.hsi[:, 5:7, 9:12] = np.nan
    output = job.write().folder / "fused.dat"
    expected = fused_rows(open_pair(job), "bicubic", tile=48)
    options = OutputOptions(driver, "float32", 1.0)
    settings = FusionSettings("bicubic", tile=48)
    run(
        job.hsi_path,
        job.msi_path,
        output,
        pair_options=PairOptions(job.camera, psf="box"),
        settings=settings,
        output_options=options,
    )
    np.testing.assert_array_equal(geofuse.open_scene(output).values, expected)


@pytest.mark.parametrize("which", ["hsi", "msi", "link"])
def test_an_output_that_is_an_input_is_refused(job, which):
    output = job.msi_path if which == "msi" else job.hsi_path
    if which == "link":
        output = job.folder / "link.tif"
        output.symlink_to(job.hsi_path)
    before = output.read_bytes()
    with pytest.raises(OutputError, match="is an input"):
        run(job.hsi_path, job.msi_path, output, pair_options=PairOptions(job.camera))
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"method": "argsdif"}, UnknownNameError, "unknown method 'argsdif'; did you mean argsdiff"),
        ({"method": "subspace", "preset": "fast"}, UsageError, "subspace has no preset 'fast'; it has default"),
        ({"method": "subspace", "options": {"rnk": 3}}, UsageError, "no option 'rnk'; it has rank"),
        ({"method": "subspace", "device": "tpu"}, UsageError, "unknown device 'tpu'"),
        ({"method": "subspace", "tile": 0}, UsageError, "tile"),
        ({"method": "subspace", "overlap": -1}, UsageError, "overlap"),
    ],
)
def test_settings_that_do_not_exist_are_refused_before_anything_is_computed(job, settings, error, words):
    with pytest.raises(error, match=words):
        Fusion(open_pair(job), FusionSettings(**settings))


def test_what_is_learnt_does_not_depend_on_the_tile_size(make_job):
    pair = open_pair(make_job().write())
    bases = []
    for tile in (16, 64):
        fusion = Fusion(pair, FusionSettings("subspace", tile=tile))
        fusion.fit()
        bases.append(fusion.method.state.basis.directions)
    np.testing.assert_array_equal(*bases)


@pytest.mark.parametrize("size", [(64, 80), (512, 512), (5000, 4000)])
def test_samples_are_few_lie_in_the_scene_and_reach_both_ends(size):
    windows = [window for window, _ in sample_windows(*size, 4)]
    assert 1 <= len(windows) <= 16
    assert all(0 <= w.row0 < w.row1 <= size[0] and 0 <= w.col0 < w.col1 <= size[1] for w in windows)
    assert windows[0].row0 == windows[0].col0 == 0 and (windows[-1].row1, windows[-1].col1) == size


def test_output_options_default_to_the_hsis_own():
    assert OutputOptions() == OutputOptions(None, None, None)
