"""The scores without a reference against plain restatements of the papers' formulas, and what they promise."""

from dataclasses import replace

import numpy as np
import pytest

from geofuse import metrics
from geofuse.errors import InputError
from geofuse.metrics import FullScale

RATIO, BANDS, MSI_BANDS, HEIGHT, WIDTH = 4, 6, 2, 64, 80
NAMES = ("d_lambda", "d_s", "qnr", "d_lambda_k", "hqnr", "hsi_rms", "hsi_db", "msi_rms", "msi_db")


def box(image, ratio=RATIO):
    n, height, width = image.shape
    return image.reshape(n, height // ratio, ratio, width // ratio, ratio).mean(axis=(2, 4))


def spread(image, ratio=RATIO):
    return image.repeat(ratio, 1).repeat(ratio, 2)


@pytest.fixture
def truth():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 9.0
    phase = rng.uniform(0, 6, (BANDS, 1, 1))
    return 1 + 0.3 * np.sin(y + phase) * np.cos(x - phase) + 0.05 * rng.standard_normal((BANDS, HEIGHT, WIDTH))


RESPONSE = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.3, 0.5]])


def respond(image):
    return np.einsum("mc,cij->mij", RESPONSE, image)


def observe(truth, fused, noise=0.0):
    rng = np.random.default_rng(7)
    hsi, msi = (image + noise * rng.standard_normal(image.shape) for image in (box(truth), respond(truth)))
    return FullScale(fused, hsi, msi, box(fused), respond(fused), box(msi))


# ---- oracles


def oracle_q(a, b, block, keep):
    """Mean over blocks of Q between two bands, weighted by their valid pixels."""
    total = 0.0
    for i in range(0, a.shape[0], block):
        for j in range(0, a.shape[1], block):
            s = np.s_[i : i + block, j : j + block]
            x, y = a[s][keep[s]], b[s][keep[s]]
            if x.size:
                cov = np.mean(x * y) - x.mean() * y.mean()
                total += x.size * 4 * cov * x.mean() * y.mean() / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2))
    return total / keep.sum()


def oracle_distortions(images, coarse_keep, ratio=RATIO, coarse_block=8):
    fine_keep = coarse_keep.repeat(ratio, 0).repeat(ratio, 1)
    fine_block = coarse_block * ratio
    spectral, spatial = [], []
    for i in range(BANDS):
        for j in range(BANDS):
            if i != j:
                fine = oracle_q(images.fused[i], images.fused[j], fine_block, fine_keep)
                spectral.append(abs(fine - oracle_q(images.hsi[i], images.hsi[j], coarse_block, coarse_keep)))
        for m in range(len(images.msi)):
            fine = oracle_q(images.fused[i], images.msi[m], fine_block, fine_keep)
            spatial.append(abs(fine - oracle_q(images.hsi[i], images.msi_coarse[m], coarse_block, coarse_keep)))
    return np.mean(spectral), np.mean(spatial)


@pytest.mark.parametrize("masked", [False, True])
def test_every_score_equals_its_formula(truth, masked):
    fused = truth + 0.1 * np.random.default_rng(1).standard_normal(truth.shape)
    images = observe(truth, fused, 0.01)
    keep = np.ones(images.hsi.shape[1:], bool)
    if masked:
        images.fused[2, 5, 9] = images.fused_msi[1, 5, 9] = np.nan  # a fine pixel takes its coarse pixel with it
        images.hsi[:, 7:9, 3:6] = np.nan
        keep[1, 2] = keep[7:9, 3:6] = False
    found = metrics.score_without_reference(images)
    spectral, spatial = oracle_distortions(images, keep)
    seen = np.isfinite(images.hsi[0])
    khan = 1 - metrics.q2n(images.hsi, images.fused_coarse, seen)
    hsi_error = (images.fused_coarse - images.hsi)[:, seen]
    msi_error = images.fused_msi - images.msi
    msi_seen = np.isfinite(msi_error).all(axis=0)
    expected = {
        "d_lambda": spectral,
        "d_s": spatial,
        "qnr": (1 - spectral) * (1 - spatial),
        "d_lambda_k": khan,
        "hqnr": (1 - khan) * (1 - spatial),
        "hsi_rms": np.sqrt(np.mean(hsi_error**2)),
        "hsi_db": 10 * np.log10(np.mean(images.hsi[:, seen] ** 2) / np.mean(hsi_error**2)),
        "msi_rms": np.sqrt(np.mean(msi_error[:, msi_seen] ** 2)),
        "msi_db": 10 * np.log10(np.mean(images.msi[:, msi_seen] ** 2) / np.mean(msi_error[:, msi_seen] ** 2)),
    }
    assert tuple(found) == NAMES
    assert found == pytest.approx(expected, rel=1e-6)
    assert (metrics.d_lambda(images), metrics.d_s(images)) == (found["d_lambda"], found["d_s"])


def test_a_fused_image_that_keeps_all_relations_has_no_distortion(truth):
    """Where the fine images are the coarse ones with every pixel repeated, nothing differs between the scales."""
    coarse = box(truth)
    images = observe(spread(coarse), spread(coarse))
    found = metrics.score_without_reference(images)
    assert [found[n] for n in ("d_lambda", "d_s", "d_lambda_k")] == pytest.approx([0, 0, 0], abs=1e-9)
    assert [found["qnr"], found["hqnr"]] == pytest.approx([1, 1], abs=1e-9)


def test_the_truth_explains_observations_without_noise(truth):
    found = metrics.score_without_reference(observe(truth, truth))
    assert (found["hsi_rms"], found["hsi_db"], found["msi_rms"], found["msi_db"]) == (0, np.inf, 0, np.inf)
    assert found["d_lambda_k"] == pytest.approx(0, abs=1e-12)


def test_the_truth_is_as_far_from_the_observations_as_their_noise(truth):
    found = metrics.score_without_reference(observe(truth, truth, 0.02))
    assert found["hsi_rms"] == pytest.approx(0.02, rel=0.05)
    assert found["msi_rms"] == pytest.approx(0.02, rel=0.05)
    assert found["msi_db"] == pytest.approx(10 * np.log10(np.mean(respond(truth) ** 2) / 0.02**2), abs=0.2)


def test_every_score_worsens_as_noise_grows(truth):
    """Starting from a fused image without distortion, so that every distortion can only grow."""
    calm = spread(box(truth))
    noise = np.random.default_rng(0).standard_normal(truth.shape)
    runs = [metrics.score_without_reference(observe(calm, calm + level * noise)) for level in (0.01, 0.03, 0.1, 0.3)]
    for name in NAMES:
        steps = np.diff([run[name] for run in runs])
        assert (steps < 0).all() if name in ("qnr", "hqnr", "hsi_db", "msi_db") else (steps > 0).all(), name


@pytest.mark.parametrize(("ratio", "block"), [(2, 16), (3, 11), (8, 8)])
def test_blocks_cover_the_same_ground_at_every_ratio(ratio, block):
    rng = np.random.default_rng(2)
    coarse = rng.uniform(1, 2, (BANDS, 17, 19))
    fine = spread(coarse, ratio) + 0.1 * rng.standard_normal((BANDS, 17 * ratio, 19 * ratio))
    images = FullScale(fine, coarse, respond(fine), box(fine, ratio), respond(fine), box(respond(fine), ratio))
    expected = oracle_distortions(images, np.ones((17, 19), bool), ratio, block)
    assert (metrics.d_lambda(images), metrics.d_s(images)) == pytest.approx(expected, rel=1e-6)


def test_zero_pixels_and_flat_bands_give_numbers(truth):
    fused = truth.copy()
    fused[:, 3, 4] = 0
    fused[1] = 0.5
    fused[2] = 0
    assert np.isfinite(list(metrics.score_without_reference(observe(truth, fused)).values())).all()
    dark = np.zeros_like(truth)
    found = metrics.score_without_reference(observe(dark, dark))
    assert (found["qnr"], found["hqnr"], found["hsi_rms"]) == (1, pytest.approx(1), 0)


def test_one_band_has_no_spectral_distortion_among_bands(truth):
    one = truth[:1]
    images = FullScale(one, box(one), one, box(one), one, box(one))
    assert metrics.d_lambda(images) == 0


def test_the_distortions_are_undefined_where_no_coarse_pixel_is_whole(truth):
    images = observe(truth, truth.copy())
    images.fused[0, ::RATIO, ::RATIO] = np.nan
    found = metrics.score_without_reference(images)
    assert np.isnan([found[n] for n in ("d_lambda", "d_s", "qnr", "hqnr")]).all()
    assert found["hsi_rms"] == 0


def test_images_that_do_not_go_together_are_refused(truth):
    images = observe(truth, truth)
    with pytest.raises(InputError, match="fused_msi has the shape"):
        replace(images, fused_msi=images.fused_msi[:1])
    with pytest.raises(InputError, match="msi has the shape"):
        replace(images, msi=images.msi[:, :-1], fused_msi=images.fused_msi[:, :-1], fused=images.fused[:, :-1])
    with pytest.raises(InputError, match="no pixel has data"):
        metrics.consistency(images.hsi, np.full_like(images.hsi, np.nan))
