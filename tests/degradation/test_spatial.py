"""The spatial operator: exact adjoint, reflected borders, the papers' bicubic."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from geofuse.degradation import SpatialOperator
from geofuse.errors import InputError, UsageError
from geofuse.sensors import Psf

UNEVEN = Psf("kernel", kernel=tuple(map(tuple, np.random.default_rng(5).random((7, 5)))))
UNEVEN_EVEN = Psf("kernel", kernel=tuple(map(tuple, np.random.default_rng(6).random((8, 6)))))
OPERATORS = [
    SpatialOperator(psf, ratio, ratio * 5, ratio * 7)
    for ratio in (2, 3, 4, 7, 20, 40)
    for psf in (Psf("bicubic"), Psf("box"), Psf("gaussian", 1.0), Psf("gaussian", 2.5), UNEVEN_EVEN if ratio % 2 == 0 else UNEVEN)
]
NAMES = [f"{op.psf.kind}-{op.ratio}" for op in OPERATORS]


@pytest.mark.parametrize("operator", OPERATORS, ids=NAMES)
def test_adjoint_is_exact(operator):
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(2, *operator.fine_shape)), rng.normal(size=(2, *operator.coarse_shape))
    left, right = (operator.forward(fine) * coarse).sum(), (fine * operator.adjoint(coarse)).sum()
    assert left == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("operator", OPERATORS, ids=NAMES)
def test_a_constant_stays_constant_up_to_the_border(operator):
    assert np.allclose(operator.forward(np.full(operator.fine_shape, 3.0)), 3.0)


@pytest.mark.parametrize("operator", OPERATORS, ids=NAMES)
def test_torch_gives_what_numpy_gives(operator):
    rng = np.random.default_rng(1)
    fine, coarse = rng.normal(size=(3, *operator.fine_shape)), rng.normal(size=(3, *operator.coarse_shape))
    assert np.allclose(operator.forward(torch.as_tensor(fine)).numpy(), operator.forward(fine))
    assert np.allclose(operator.adjoint(torch.as_tensor(coarse)).numpy(), operator.adjoint(coarse))


def test_what_a_coarse_pixel_sees_counts_negative_weights_too():
    operator = SpatialOperator(Psf("bicubic"), 4, 32, 32)
    pixels = np.ones((32, 32), bool)
    assert operator.sees_only(pixels).all()
    pixels[8] = False
    assert operator.forward(pixels.astype(float))[3, 4] > 1  # row 8 has a negative weight there
    assert not operator.sees_only(pixels)[:4].any() and operator.sees_only(pixels)[4:].all()


def test_bicubic_is_pillows_antialiased_bicubic_away_from_the_border():
    image = pytest.importorskip("PIL.Image")
    fine = np.random.default_rng(2).normal(size=(64, 48)).astype(np.float32)
    expected = np.asarray(image.fromarray(fine).resize((12, 16), image.Resampling.BICUBIC))
    found = SpatialOperator(Psf("bicubic"), 4, 64, 48).forward(fine)
    assert np.allclose(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)


@pytest.mark.parametrize("ratio", [3, 4])
def test_a_sampled_kernel_is_a_plain_correlation_then_decimation(ratio):
    rng = np.random.default_rng(3)
    size = 5 if ratio % 2 else 6
    kernel = rng.random((size, size))
    kernel /= kernel.sum()
    fine = rng.normal(size=(ratio * 6, ratio * 8))
    found = SpatialOperator(Psf("kernel", kernel=tuple(map(tuple, kernel))), ratio, *fine.shape).forward(fine)
    padded = np.pad(fine, size, mode="symmetric")
    for i, j in [(0, 0), (2, 3), (5, 7)]:
        top, left = (int((k + 0.5) * ratio - size / 2) + size for k in (i, j))
        assert found[i, j] == pytest.approx((padded[top : top + size, left : left + size] * kernel).sum())


def test_a_gaussian_has_the_width_it_claims():
    operator = SpatialOperator(Psf("gaussian", 1.5), 8, 8 * 9, 8 * 9)
    point = np.zeros(operator.coarse_shape)
    point[4, 4] = 1
    profile = operator.adjoint(point).sum(axis=0)
    offset = np.arange(72) - 35.5
    sigma = np.sqrt((profile * offset**2).sum() / profile.sum())
    assert 2.3548 * sigma / 8 == pytest.approx(1.5, rel=0.02)


def test_reach_covers_the_psf():
    operator = SpatialOperator(Psf("bicubic"), 4, 64, 64)
    point = np.zeros(operator.coarse_shape)
    point[8, 8] = 1
    rows = np.flatnonzero(np.abs(operator.adjoint(point)).sum(axis=1) > 0)
    assert rows.min() >= 32 - operator.reach and rows.max() <= 35 + operator.reach


@pytest.mark.parametrize("ratio", [1, 41])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(UsageError, match=f"ratio {ratio} is outside 2 to 40"):
        SpatialOperator(Psf("box"), ratio, ratio * 4, ratio * 4)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="not a multiple of the ratio 4"):
        SpatialOperator(Psf("box"), 4, 30, 32)
    with pytest.raises(InputError, match="expected an image of 32 x 32"):
        SpatialOperator(Psf("box"), 4, 32, 32).forward(np.zeros((16, 16)))


def test_box_is_the_mean_of_the_pixels_inside():
    fine = np.random.default_rng(4).normal(size=(12, 20))
    found = SpatialOperator(Psf("box"), 4, 12, 20).forward(fine)
    assert np.allclose(found, ndimage.uniform_filter(fine, 4, origin=-2)[::4, ::4][:3, :5], atol=1e-12)
