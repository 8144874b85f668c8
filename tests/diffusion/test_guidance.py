"""The guidance (10), Adam (13)-(15) and the ARGM (16)-(17), each against a restatement of its own."""

import numpy as np
import pytest
import torch

from geofuse.degradation import SpatialOperator
from geofuse.diffusion.guidance import (
    AdamMoments,
    Observation,
    argm_gradients,
    from_unit,
    guidance_loss,
    product,
    residual_norms,
    to_unit,
)
from geofuse.errors import InputError
from geofuse.sensors.psf import Psf

D, C, B, H, W, RATIO = 3, 5, 2, 8, 12, 2


@pytest.fixture
def scene():
    """Components in [-1, 1] and an observation with a few holes, float64."""
    draw = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    spatial, spectral = 2 * torch.rand(D, H, W, **draw) - 1, 2 * torch.rand(D, C, **draw) - 1
    hsi, msi = torch.rand(C, H // RATIO, W // RATIO, **draw), torch.rand(B, H, W, **draw)
    hsi[:, 1, 2] = hsi[3, 0, 0] = msi[:, 4:6, 1:3] = float("nan")
    response = torch.rand(B, C, **draw)
    return spatial, spectral, Observation.of(hsi, msi, SpatialOperator(Psf("bicubic"), RATIO, H, W), response), hsi, msi


def naive_parts(spatial, spectral, observation, hsi, msi):
    """Form Z and both residuals in numpy, pixel by pixel product and all, and return the operator's dense matrices too."""
    a, e, r = (x.detach().numpy() for x in ((spatial + 1) / 2, (spectral + 1) / 2, observation.response))
    z = sum(a[k][None] * e[k][:, None, None] for k in range(D))  # (7)
    ((v, u),) = observation.operator.axis_matrices()
    return a, e, r, v, u, np.nan_to_num(v @ z @ u.T - hsi.numpy()), np.nan_to_num(np.tensordot(r, z, 1) - msi.numpy())


def test_the_product_is_mode_3(scene):
    spatial, spectral = scene[:2]
    z = product(spatial, spectral)
    assert z.shape == (C, H, W)
    torch.testing.assert_close(z[:, 2, 3], spectral.T @ spatial[:, 2, 3])
    torch.testing.assert_close(to_unit(from_unit(spatial)), spatial)


def test_the_guidance_is_the_sum_of_both_residual_norms_without_the_masked_pixels(scene):
    *_, hsi_residual, msi_residual = naive_parts(*scene)
    norms = residual_norms(*scene[:3])
    expected = np.sqrt((hsi_residual**2).sum()), np.sqrt((msi_residual**2).sum())
    np.testing.assert_allclose([float(n) for n in norms], expected, rtol=1e-10)
    np.testing.assert_allclose(float(guidance_loss(*scene[:3], 0.7)), expected[0] + 0.7 * expected[1], rtol=1e-10)


def test_argm_gradients_equal_the_adjoint_formulas(scene):
    a, e, r, v, u, hsi_residual, msi_residual = naive_parts(*scene)
    weight = 0.7
    back = v.T @ (hsi_residual / np.linalg.norm(hsi_residual)) @ u  # H^T of the residual's direction
    back = back + weight * np.tensordot(r.T, msi_residual / np.linalg.norm(msi_residual), 1)  # (C, H, W)
    to_spatial, to_spectral = argm_gradients(*scene[:3], weight)
    np.testing.assert_allclose(to_spatial.numpy(), 0.5 * np.tensordot(e, back, 1), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(to_spectral.numpy(), 0.5 * np.einsum("dhw,chw->dc", a, back), rtol=1e-8, atol=1e-12)


def test_argm_gradients_equal_finite_differences(scene):
    spatial, spectral, observation = scene[:3]
    to_spatial, to_spectral = argm_gradients(spatial, spectral, observation, 0.7)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        along_a, along_e = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (spatial, spectral))
        step = 1e-6
        up, down = (guidance_loss(spatial + s * along_a, spectral + s * along_e, observation, 0.7) for s in (step, -step))
        slope = (to_spatial * along_a).sum() + (to_spectral * along_e).sum()
        assert float(slope) == pytest.approx(float((up - down) / (2 * step)), rel=1e-6)


def test_argm_gives_only_the_gradients_asked_for_and_leaves_its_input_alone(scene):
    spatial, spectral, observation = scene[:3]
    both = argm_gradients(spatial, spectral, observation, 1.0)
    only_a = argm_gradients(spatial, spectral, observation, 1.0, for_spectral=False)
    only_e = argm_gradients(spatial, spectral, observation, 1.0, for_spatial=False)
    assert only_a[1] is None and only_e[0] is None
    torch.testing.assert_close(only_a[0], both[0])
    torch.testing.assert_close(only_e[1], both[1])
    assert not spatial.requires_grad and not spectral.requires_grad


def test_masked_pixels_get_no_gradient_from_their_own_image(scene):
    spatial, spectral, observation = scene[:3]
    blind = Observation.of(torch.full_like(observation.hsi, float("nan")), scene[4], observation.operator, observation.response)
    to_spatial, to_spectral = argm_gradients(spatial, spectral, blind, 1.0)
    assert float(to_spatial[:, 4:6, 1:3].abs().max()) == 0
    assert bool(to_spatial.isfinite().all()) and bool(to_spectral.isfinite().all())


def test_an_observation_without_any_data_gives_gradients_of_zero(scene):
    spatial, spectral, observation = scene[:3]
    nothing = [torch.full_like(x, float("nan")) for x in (observation.hsi, observation.msi)]
    gradients = argm_gradients(spatial, spectral, Observation.of(*nothing, observation.operator, observation.response), 1.0)
    assert all(float(g.abs().max()) == 0 for g in gradients)


def test_adam_moves_as_torchs_adam():
    generator, rho = torch.Generator().manual_seed(0), 0.05
    ours = torch.randn(4, 5, generator=generator)
    theirs = torch.nn.Parameter(ours.clone())
    optimiser, moments = torch.optim.Adam([theirs], lr=rho, betas=(0.9, 0.999), eps=1e-8), AdamMoments(ours)
    for _ in range(20):
        gradient = torch.randn(4, 5, generator=generator)
        ours = ours - rho * moments.direction(gradient)
        theirs.grad = gradient
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_a_response_of_the_wrong_shape_is_refused(scene):
    with pytest.raises(InputError, match="expected 2 x 5"):
        Observation.of(scene[3], scene[4], scene[2].operator, torch.rand(C, B))
