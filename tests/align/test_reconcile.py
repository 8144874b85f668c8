"""Contradictions between two images, shared between them."""

import dask.array as da
import numpy as np
import pytest

from geofuse.align import make_pair
from geofuse.align.reconcile import _finest, reconcile, share, spread
from geofuse.align.trust import add_trust, compare
from geofuse.degradation import SpatialOperator
from geofuse.pipeline import Fusion, FusionSettings
from geofuse.sensors import Psf

CORNER = (300000.0, 4000000.0)
OVAL = Psf("kernel", kernel=tuple(map(tuple, np.outer([1, 3, 5, 7, 7, 4, 2, 1], [1, 2, 4, 6, 5, 3, 2, 1]) / 720.0)))


def smooth(shape, seed, width=3.0):
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, width, width))
    return values / values.std()


def fine_scene():
    """A scene (30, 128, 160) of few spectra."""
    z = 0.5 + np.einsum("k,kyx->yx", [0.05, 0.03], smooth((2, 128, 160), 0))[None] * np.linspace(0.5, 1.5, 30)[:, None, None]
    return z + 0.02 * smooth((1, 128, 160), 5, 1.0)


@pytest.fixture(scope="module")
def pair_of(build, rgb):
    """Make a pair of 32 x 40 coarse pixels whose MSI shows more, by ``apart`` of its contrast, than the HSI."""

    def make(apart, noise=0.003, psf="bicubic", chunks=None):
        rng, z = np.random.default_rng(1), fine_scene()
        coarse = SpatialOperator(Psf("bicubic"), 4, 128, 160).forward(z)
        hsi = build.scene(
            coarse + noise * rng.standard_normal(coarse.shape), build.north_up(*CORNER, 40.0), wavelengths=build.wavelengths
        )
        ones = build.scene(np.ones((3, 128, 160)), build.north_up(*CORNER, 10.0))
        fine = np.einsum("ck,kyx->cyx", make_pair(hsi, ones, srf=rgb, psf=psf)["response"].values, z)
        fine = fine + apart * fine.std() * smooth(fine.shape, 7, 5.0) + noise * rng.standard_normal(fine.shape)
        msi = build.scene(fine, build.north_up(*CORNER, 10.0), chunks=chunks)
        return make_pair(hsi, msi, srf=rgb, psf=psf)

    return make


@pytest.mark.parametrize(
    ("psf", "ratio"),
    [(Psf("bicubic"), 4), (Psf("box"), 3), (Psf("gaussian", 1.3), 6), (Psf("gaussian", 1.3), 3), (OVAL, 4)],
    ids=lambda p: getattr(p, "kind", p),
)
def test_spread_is_the_adjoint_of_the_blur_away_from_the_border(psf, ratio):
    coarse = np.zeros((2, 16, 15))
    coarse[:, 5:11, 5:10] = np.random.default_rng(0).normal(size=(2, 6, 5))
    expected = SpatialOperator(psf, ratio, 16 * ratio, 15 * ratio).adjoint(coarse)
    np.testing.assert_allclose(spread(coarse, psf.separable_terms(ratio), ratio), expected, atol=1e-12)


@pytest.mark.parametrize("psf", [Psf("bicubic"), Psf("gaussian", 1.3), OVAL], ids=lambda p: p.kind)
def test_the_shares_explain_the_whole_difference_and_the_msi_gives_three_times_as_much_at_most(psf):
    rng = np.random.default_rng(3)
    response = rng.uniform(0, 0.2, (3, 20))
    difference = np.zeros((3, 24, 20))
    difference[:, 6:18, 6:14] = smooth((3, 12, 8), 4, 1.0)
    found = share(difference, response @ response.T, psf.separable_terms(4), 4)
    spatial = SpatialOperator(psf, 4, 96, 80)
    by_hsi = np.einsum("ck,kl,lhw->chw", response, response.T, found.multiplier)
    by_msi = found.balance * spatial.forward(spread(found.multiplier, psf.separable_terms(4), 4))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    np.testing.assert_allclose((by_hsi + by_msi)[inner], difference[inner], atol=0.02)
    assert abs(9 * (by_hsi**2).sum() / (by_msi**2).sum() - 1) < 0.1


@pytest.mark.parametrize("psf", [Psf("bicubic"), Psf("gaussian", 1.3), OVAL], ids=lambda p: p.kind)
def test_the_difference_itself_tells_whose_it_is(psf):
    rng, response = np.random.default_rng(6), np.random.default_rng(3).uniform(0, 0.2, (3, 20))
    of_hsi = np.einsum("ck,khw->chw", response, rng.normal(size=(20, 40, 36)))
    of_msi = SpatialOperator(psf, 4, 160, 144).forward(rng.normal(size=(3, 160, 144)))
    of_msi = of_msi * of_hsi.std() / of_msi.std()
    hsi, both, msi = (
        share(difference, response @ response.T, psf.separable_terms(4), 4).by_hsi
        for difference in (of_hsi, of_hsi + of_msi, of_msi)
    )
    assert hsi > 0.9
    assert 0.35 < both < 0.8
    assert msi == pytest.approx(0.25, abs=0.02)  # no less, whatever the difference says


def test_no_image_with_the_same_error_against_the_hsi_is_nearer_to_the_msi():
    """The shares lie on the front: moving along any other solution of R e - H(f) = D raises the weighted sum of squares."""
    rng, psf = np.random.default_rng(5), Psf("gaussian", 1.2)
    response, difference = rng.uniform(0, 0.2, (2, 9)), np.zeros((2, 20, 20))
    difference[:, 7:13, 7:13] = rng.normal(size=(2, 6, 6))
    found = share(difference, response @ response.T, psf.separable_terms(4), 4)
    spatial = SpatialOperator(psf, 4, 80, 80)
    e = np.einsum("ck,chw->khw", response, found.multiplier)
    f = -found.balance * spread(found.multiplier, psf.separable_terms(4), 4)
    least = (e**2).sum() + (f**2).sum() / found.balance
    for seed in range(5):
        z = np.zeros((9, 80, 80))
        z[:, 24:56, 24:56] = 0.1 * np.random.default_rng(seed).normal(size=(9, 32, 32))  # e + H z and f + R z solve it as well
        other = ((e + spatial.forward(z)) ** 2).sum() + ((f + np.einsum("ck,kyx->cyx", response, z)) ** 2).sum() / found.balance
        assert other > least


def test_what_optics_blur_is_not_taken_for_noise():
    rng = np.random.default_rng(8)
    image = smooth((2, 96, 96), 9, 1.2) + 0.02 * rng.normal(size=(2, 96, 96))
    image[0, 40:50, 40:50] = np.nan
    np.testing.assert_allclose(np.sqrt(_finest(image)), 0.02, rtol=0.2)


def test_images_that_agree_but_for_noise_are_left_alone(pair_of):
    for noise in (0.003, 0.02):
        pair = pair_of(0.0, noise)
        assert reconcile(pair, compare(pair)[0], np.ones((32, 40))) is pair


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_images_that_contradict_each_other_agree_afterwards_but_for_their_noise(pair_of, noise):
    pair = pair_of(0.4, noise)
    before, _ = compare(pair)
    after = reconcile(pair, before, np.ones((32, 40)))
    assert "contradict each other by" in after.attrs["notes"][-1]
    left, inner = compare(after)[0], (slice(None), slice(4, -4), slice(4, -4))
    kernel = sum(np.outer(v, u) for v, u in Psf("bicubic").separable_terms(4))
    expected = noise**2 * ((pair["response"].values ** 2).sum(axis=1).mean() + (kernel**2).sum())
    assert np.sqrt((left[inner] ** 2).mean() / expected) == pytest.approx(1.0, abs=0.25)
    assert (left[inner] ** 2).mean() < 0.5 * (before[inner] ** 2).mean()
    changed = [np.abs(after[name].values - pair[name].values).mean() for name in ("hsi", "msi")]
    assert min(changed) > 0.001


@pytest.mark.parametrize("noise", [0.001, 0.01])
def test_a_wrong_psf_does_less_harm_where_what_it_leaves_is_shared(pair_of, noise):
    pair = pair_of(0.0, noise, psf="gaussian:1.4")

    def error(pair):
        fusion = Fusion(pair, FusionSettings("subspace", device="cpu"))
        fusion.fit()
        return np.sqrt(((next(iter(fusion.rows()))[1] - fine_scene()) ** 2).mean())

    assert error(add_trust(pair, change="auto")) < 0.85 * error(pair)


def test_blocks_do_not_show(pair_of):
    whole, blocks = (
        reconcile(pair, compare(pair)[0], np.ones((32, 40)))["msi"].values
        for pair in (pair_of(0.4), pair_of(0.4, chunks=(3, 32, 40)))
    )
    np.testing.assert_allclose(whole, blocks, atol=1e-5)


def test_what_a_mask_hides_does_not_change_the_hsi(pair_of, tmp_path):
    import rasterio
    from affine import Affine

    pair = pair_of(0.4)
    mask = np.zeros((1, 128, 160), "uint8")
    mask[:, 40:88, 40:88] = 1
    profile = {"driver": "GTiff", "count": 1, "height": 128, "width": 160, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "mask.tif", "w", **profile, transform=Affine(10, 0, CORNER[0], 0, -10, CORNER[1])) as dataset:
        dataset.write(mask)
    masked = add_trust(pair, tmp_path / "mask.tif", change="auto")
    change = np.abs(masked["hsi"].values - pair["hsi"].values).mean(axis=0)
    assert change[14:18, 14:18].max() < 0.1 * change[:6].mean()


def test_images_agree_afterwards_at_the_border_and_around_a_hole_as_well(pair_of):
    pair = pair_of(0.4)
    msi = pair["msi"].values
    msi[:, 61:83, 70:94] = np.nan
    pair = pair.assign(msi=pair["msi"].copy(data=da.from_array(msi)))
    whole, (before, _) = np.isfinite(compare(pair)[0]).all(axis=0), compare(pair, 0.5)
    after, _ = compare(add_trust(pair, change="auto"), 0.5)
    edges = np.isfinite(before).all(axis=0) & ~whole
    assert edges.sum() > 100  # where H(Y) rests on a part of the PSF
    assert np.sqrt((after[:, edges] ** 2).mean()) < 0.4 * np.sqrt((before[:, edges] ** 2).mean())
