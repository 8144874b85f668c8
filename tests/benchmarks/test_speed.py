"""How fast operators, solvers and metrics are: ``pytest tests/benchmarks -m speed`` (pytest-benchmark; left out of other runs).

Compare two versions with ``--benchmark-autosave`` before and ``--benchmark-compare`` after. One thread is used unless
GEOFUSE_THREADS says otherwise, so that numbers can be compared.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.speed

BANDS, MSI_BANDS, RANK, RATIO, SIDE = 200, 7, 10, 4, 256


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Compute with one thread, as a choice of the tests and not of the machine."""
    import os

    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("GEOFUSE_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


# ---- operators


@pytest.fixture(params=["bicubic", "gaussian", "box"])
def operator(request):
    from geofuse.degradation import SpatialOperator
    from geofuse.sensors import Psf

    return SpatialOperator(Psf.parse(request.param), RATIO, SIDE, SIDE)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_spatial_forward(benchmark, operator, rng, library):
    image = _in(library, rng.random((RANK, *operator.fine_shape), np.float32))
    benchmark(operator.forward, image)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_spatial_adjoint(benchmark, operator, rng, library):
    image = _in(library, rng.random((RANK, *operator.coarse_shape), np.float32))
    benchmark(operator.adjoint, image)


def _in(library: str, image: np.ndarray):
    import torch

    return image if library == "numpy" else torch.as_tensor(image)


# ---- solvers


@pytest.fixture(scope="module")
def problem(rng):
    """Make a fusion problem in a subspace of RANK dimensions."""
    import torch

    from geofuse.degradation import SpatialOperator
    from geofuse.degradation.solvers import FusionProblem
    from geofuse.sensors import Psf

    spatial = SpatialOperator(Psf.parse("gaussian"), RATIO, SIDE, SIDE)
    truth, mixing = (
        torch.as_tensor(rng.standard_normal(shape), dtype=torch.float32) for shape in ((RANK, SIDE, SIDE), (MSI_BANDS, RANK))
    )
    fine = torch.einsum("cd,dhw->chw", mixing, truth)
    ones = torch.ones(spatial.coarse_shape), torch.ones(spatial.fine_shape)
    return FusionProblem(spatial, spatial.forward(truth), ones[0], fine, ones[1], mixing, torch.full((MSI_BANDS,), 0.1))


def test_conjugate_gradients(benchmark, problem):
    import torch

    from geofuse.degradation.solvers import solve_with_prior

    start = torch.zeros((RANK, *problem.spatial.fine_shape))
    benchmark(solve_with_prior, problem, start, torch.eye(RANK))


def test_local_regression(benchmark, problem):
    import torch

    from geofuse.methods.local_regression import CoarseMsi, predict_fine, regress, scene_moments

    on_coarse = CoarseMsi.of(problem.fine, problem.spatial)
    weight = torch.ones(problem.spatial.coarse_shape)
    moments = scene_moments([(on_coarse.blurred, problem.coarse, weight)])
    benchmark(lambda: predict_fine(regress(on_coarse, problem.coarse, weight, problem.fine_noise, moments), problem.fine))


# ---- metrics


@pytest.fixture(scope="module")
def cubes(rng):
    reference = rng.uniform(0.1, 0.6, (BANDS, SIDE, SIDE)).astype(np.float32)
    return reference, reference + 0.02 * rng.standard_normal(reference.shape, np.float32)


@pytest.mark.parametrize("name", ["psnr", "rmse", "sam", "ergas", "ssim", "uiqi", "q2n", "scc"])
def test_metric(benchmark, cubes, name):
    from geofuse import metrics

    score = getattr(metrics, name)
    benchmark.pedantic(score, (*cubes, RATIO) if name == "ergas" else cubes, rounds=3, warmup_rounds=1)


def test_metrics_without_reference(benchmark, cubes, rng):
    from geofuse.metrics import FullScale, score_without_reference

    reference, fused = cubes
    response = rng.dirichlet(np.ones(BANDS), MSI_BANDS).astype(np.float32)

    def coarse(image):
        return image.reshape(len(image), SIDE // RATIO, RATIO, SIDE // RATIO, RATIO).mean(axis=(2, 4))

    msi, seen = (np.einsum("mc,cij->mij", response, image) for image in (reference, fused))
    images = FullScale(fused, coarse(reference), msi, coarse(fused), seen, coarse(msi))
    benchmark.pedantic(score_without_reference, (images,), rounds=3, warmup_rounds=1)
