"""The scores against plain restatements of their formulas, scikit-image and torchmetrics, and their promises about no data."""

import json

import numpy as np
import pytest

from geofuse import metrics
from geofuse.errors import InputError, UsageError

RATIO = 4
NAMES = ("psnr", "psnr_global", "rmse", "sam", "ergas", "ssim", "uiqi", "q2n", "scc")


@pytest.fixture
def pair():
    """Make a smooth positive reference (6, 40, 37) with bands of unlike brightness, and a noisy estimate."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:40, :37] / 6.0
    phase = rng.uniform(0, 6, (6, 1, 1))
    gain = np.array([0.02, 0.3, 1, 40, 900, 3000])[:, None, None]
    reference = gain * (2 + np.sin(y + phase) * np.cos(1.7 * x - phase) + 0.2 * rng.standard_normal((6, 40, 37)))
    return reference, reference * (1 + 0.05 * rng.standard_normal(reference.shape))


@pytest.fixture
def holes():
    """Mark the pixels that count: a corner and some scattered ones are out."""
    keep = np.ones((40, 37), bool)
    keep[:9, 25:] = False
    keep[30, 30] = keep[20, 3] = False
    return keep


def with_nan(image, keep, band):
    out = image.copy()
    out[band, ~keep] = np.nan
    return out


# ---- oracles, written from the formulas, pixel by pixel or window by window


def oracle_pixelwise(reference, estimate, keep):
    psnr, mse, relative = [], [], []
    for r, e in zip(reference, estimate, strict=True):
        values = [(a, b) for a, b, k in zip(r.ravel(), e.ravel(), keep.ravel(), strict=True) if k]
        truth = [a for a, _ in values]
        m = sum((a - b) ** 2 for a, b in values) / len(values)
        psnr.append(10 * np.log10(max(truth) ** 2 / m))
        mse.append(m)
        relative.append(m / (sum(truth) / len(truth)) ** 2)
    top = max(reference[:, keep].ravel())
    return {
        "psnr": np.mean(psnr),
        "psnr_global": 10 * np.log10(top**2 / np.mean(mse)),
        "rmse": np.sqrt(np.mean(mse)),
        "ergas": 100 / RATIO * np.sqrt(np.mean(relative)),
    }


def oracle_sam(reference, estimate, keep):
    angles = []
    for i, j in zip(*np.nonzero(keep), strict=True):
        u, v = reference[:, i, j], estimate[:, i, j]
        angles.append(np.degrees(np.arccos(u @ v / np.sqrt((u @ u) * (v @ v)))))
    return np.mean(angles)


def windows(keep, size):
    for i in range(keep.shape[0] - size + 1):
        for j in range(keep.shape[1] - size + 1):
            if keep[i : i + size, j : j + size].all():
                yield slice(i, i + size), slice(j, j + size)


def oracle_ssim(reference, estimate, keep):
    t = np.arange(-5, 6)
    g = np.exp(-(t**2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    bands = []
    for r, e in zip(reference, estimate, strict=True):
        span = r[keep].max() - r[keep].min()
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        out = []
        for s in windows(keep, 11):
            x, y = r[s], e[s]
            mx, my = (w * x).sum(), (w * y).sum()
            vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
            out.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
        bands.append(np.mean(out))
    return np.mean(bands)


def oracle_uiqi(reference, estimate, keep):
    bands = []
    for r, e in zip(reference, estimate, strict=True):
        out = []
        for s in windows(keep, 8):
            x, y = r[s], e[s]
            cov = np.mean((x - x.mean()) * (y - y.mean()))
            out.append(4 * cov * x.mean() * y.mean() / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2)))
        bands.append(np.mean(out))
    return np.mean(bands)


@pytest.mark.parametrize("masked", [False, True])
def test_every_score_equals_its_formula(pair, holes, masked):
    reference, estimate = pair
    keep = holes if masked else np.ones_like(holes)
    found = metrics.evaluate_arrays(with_nan(reference, keep, 2), estimate, RATIO)
    expected = oracle_pixelwise(reference, estimate, keep)
    expected["sam"] = oracle_sam(reference, estimate, keep)
    expected["ssim"] = oracle_ssim(reference, estimate, keep)
    expected["uiqi"] = oracle_uiqi(reference, estimate, keep)
    expected |= {name: getattr(metrics, name)(reference, estimate, keep) for name in ("q2n", "scc")}  # theirs: test_q2n_and_scc.py
    assert tuple(found) == NAMES
    assert found == pytest.approx(expected, rel=1e-6)


def test_scikit_image_agrees(pair):
    skimage = pytest.importorskip("skimage.metrics")
    reference, estimate = pair
    bands = metrics.per_band(reference, estimate, RATIO)
    for b, (r, e) in enumerate(zip(reference, estimate, strict=True)):
        assert bands["psnr"][b] == pytest.approx(skimage.peak_signal_noise_ratio(r, e, data_range=r.max()), rel=1e-6)
        expected = skimage.structural_similarity(
            r, e, data_range=np.ptp(r), gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert bands["ssim"][b] == pytest.approx(expected, rel=1e-6)


def test_torchmetrics_agrees(pair):
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.functional.image")
    reference, estimate = pair
    r, e = (torch.from_numpy(a)[None] for a in (reference, estimate))
    found = metrics.evaluate_arrays(reference, estimate, RATIO)
    assert found["sam"] == pytest.approx(np.degrees(float(tm.spectral_angle_mapper(e, r))), rel=1e-6)
    assert found["ergas"] == pytest.approx(float(tm.error_relative_global_dimensionless_synthesis(e, r, ratio=RATIO)), rel=1e-6)
    assert found["psnr_global"] == pytest.approx(float(tm.peak_signal_noise_ratio(e, r, data_range=reference.max())), rel=1e-6)
    ssim = []
    for b in range(len(reference)):  # its own mean counts windows that the reflected border completes; ours does not
        options = {"data_range": float(np.ptp(reference[b])), "return_full_image": True}
        full = tm.structural_similarity_index_measure(e[:, [b]], r[:, [b]], **options)[1]
        ssim.append(float(full[..., 5:-5, 5:-5].mean()))
    assert found["ssim"] == pytest.approx(np.mean(ssim), rel=1e-6)


def test_the_functions_of_single_scores_agree_with_the_joint_one(pair, holes):
    reference, estimate = pair
    joint = metrics.evaluate_arrays(reference, estimate, RATIO, holes)
    single = {n: getattr(metrics, n)(reference, estimate, mask=holes) for n in NAMES if n != "ergas"}
    single["ergas"] = metrics.ergas(reference, estimate, RATIO, holes)
    assert single == joint


def test_identical_images_have_the_ideal_scores(pair):
    reference = pair[0]
    found = metrics.evaluate_arrays(reference, reference.copy(), RATIO)
    assert (found["psnr"], found["psnr_global"]) == (np.inf, np.inf)
    assert (found["rmse"], found["sam"], found["ergas"]) == (0, 0, 0)
    assert found["ssim"] == pytest.approx(1, abs=1e-12)
    assert found["uiqi"] == pytest.approx(1, abs=1e-9)


def test_one_exact_band_makes_the_mean_psnr_infinite_and_leaves_the_global_one_finite(pair):
    reference, estimate = pair
    estimate[1] = reference[1]
    found = metrics.evaluate_arrays(reference, estimate, RATIO)
    assert found["psnr"] == np.inf and np.isfinite(found["psnr_global"])


def test_every_score_worsens_as_noise_grows(pair):
    reference = pair[0]
    noise = np.random.default_rng(0).standard_normal(reference.shape) * reference.mean((1, 2), keepdims=True)
    runs = [metrics.evaluate_arrays(reference, reference + level * noise, RATIO) for level in (0.01, 0.03, 0.1, 0.3)]
    for name in NAMES:
        steps = np.diff([run[name] for run in runs])
        assert (steps > 0).all() if name in ("rmse", "sam", "ergas") else (steps < 0).all(), name


@pytest.mark.parametrize("wild", [np.nan, np.inf, 1e30, -1e30])
def test_values_of_pixels_that_do_not_count_never_matter(pair, holes, wild):
    reference, estimate = pair
    expected = metrics.evaluate_arrays(reference, estimate, RATIO, holes)
    bad_reference, bad_estimate = reference.copy(), estimate.copy()
    bad_reference[:, ~holes] = wild
    bad_estimate[3, ~holes] = wild
    assert metrics.evaluate_arrays(bad_reference, bad_estimate, RATIO, holes) == expected


def test_no_data_in_one_band_of_either_image_equals_a_mask(pair, holes):
    reference, estimate = pair
    expected = metrics.evaluate_arrays(reference, estimate, RATIO, holes)
    assert metrics.evaluate_arrays(with_nan(reference, holes, 0), estimate, RATIO) == expected
    assert metrics.evaluate_arrays(reference, with_nan(estimate, holes, 4), RATIO) == expected


@pytest.mark.parametrize("constant", [0.0, 7.0, -3.0])
@pytest.mark.parametrize("exact", [True, False])
def test_a_constant_band_gives_no_nan_and_does_not_hide_the_others(pair, constant, exact):
    reference, estimate = pair
    reference[2] = constant
    estimate[2] = constant if exact else constant + 0.1 * estimate[2]
    overall, bands = metrics.evaluate_arrays(reference, estimate, RATIO), metrics.per_band(reference, estimate, RATIO)
    assert not np.isnan([*overall.values(), *np.concatenate(list(bands.values()))]).any()
    others = [0, 1, 3, 4, 5]
    assert overall["ssim"] == pytest.approx(bands["ssim"][others].mean())
    assert overall["uiqi"] == pytest.approx(bands["uiqi"][others].mean())
    if constant == 0:
        assert overall["psnr"] == pytest.approx(bands["psnr"][others].mean())
        assert overall["ergas"] == pytest.approx(np.sqrt(np.mean(bands["ergas"][others] ** 2)))


@pytest.mark.parametrize("estimated", [0.0, 1.0])
def test_an_all_zero_reference_gives_no_nan(estimated):
    reference = np.zeros((3, 20, 20))
    found = metrics.evaluate_arrays(reference, np.full_like(reference, estimated), RATIO)
    assert not np.isnan(list(found.values())).any()
    assert found["psnr"] == (np.inf if estimated == 0 else -np.inf)
    half = np.zeros_like(reference)
    half[0] = estimated
    assert metrics.psnr(reference, half) == found["psnr"]


def test_zero_spectra_are_left_out_of_the_reference_and_cost_a_right_angle_in_the_estimate():
    reference = np.ones((3, 2, 2))
    estimate = reference.copy()
    reference[:, 0, 0] = 0
    assert metrics.sam(reference, estimate) == 0
    estimate[:, 1, 1] = 0
    assert metrics.sam(reference, estimate) == pytest.approx(30)


def test_a_band_whose_mean_is_rounding_is_left_out_of_ergas(pair):
    reference, estimate = (image.astype(np.float32) for image in pair)
    zero_mean = reference[0] - reference[0].mean()
    assert zero_mean.mean(dtype=float) != 0
    with_it = metrics.ergas(np.stack([zero_mean, *reference[1:]]), np.stack([zero_mean + 0.01, *estimate[1:]]), 4)
    assert with_it == pytest.approx(metrics.ergas(reference[1:], estimate[1:], 4))


def test_small_angles_keep_their_digits():
    reference = np.ones((2, 1, 1))
    estimate = reference * np.array([1, 1 + 2e-9])[:, None, None]
    assert metrics.sam(reference, estimate) == pytest.approx(np.degrees(1e-9), rel=1e-6)


def test_float32_images_score_as_float64_ones(pair):
    reference, estimate = (a.astype(np.float32) for a in pair)
    expected = metrics.evaluate_arrays(reference.astype(float), estimate.astype(float), RATIO)
    assert metrics.evaluate_arrays(reference, estimate, RATIO) == pytest.approx(expected, rel=1e-12)


def test_flat_windows_compare_by_brightness_alone():
    reference = np.full((1, 16, 24), 2.0)
    reference[:, :, 12:] = 6.0
    estimate = reference * 2
    flat = np.zeros((16, 24), bool)
    flat[:, :10] = True
    reference[0, 0, 0] += 1e-3  # so that the part under the mask is not constant
    assert metrics.uiqi(reference, estimate, flat) == pytest.approx(2 * 2 / 5, rel=0.05)
    assert metrics.uiqi(np.where(flat, reference, 2.0), np.where(flat, reference, 2.0)) == pytest.approx(1)


def test_images_smaller_than_a_window_have_no_ssim_but_all_other_scores():
    rng = np.random.default_rng(1)
    reference = rng.uniform(1, 2, (3, 9, 30))
    found = metrics.evaluate_arrays(reference, reference + 0.1, RATIO)
    assert np.isnan(found["ssim"]) and np.isfinite([v for n, v in found.items() if n != "ssim"]).all()


def test_inputs_that_cannot_be_compared_are_refused(pair):
    reference, estimate = pair
    with pytest.raises(InputError, match="share one shape"):
        metrics.evaluate_arrays(reference, estimate[:, :-1], RATIO)
    with pytest.raises(InputError, match="no pixel has data"):
        metrics.evaluate_arrays(reference, np.full_like(estimate, np.nan), RATIO)
    with pytest.raises(InputError, match="the mask is"):
        metrics.evaluate_arrays(reference, estimate, RATIO, np.ones((3, 3), bool))
    with pytest.raises(UsageError, match="ratio"):
        metrics.evaluate_arrays(reference, estimate, 0)


def test_the_arrays_are_left_as_they_were(pair, holes):
    reference, estimate = with_nan(pair[0], holes, 1), pair[1]
    before = json.dumps([reference.tolist(), estimate.tolist(), holes.tolist()])
    metrics.evaluate_arrays(reference, estimate, RATIO, holes)
    assert json.dumps([reference.tolist(), estimate.tolist(), holes.tolist()]) == before
