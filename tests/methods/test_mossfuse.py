"""MossFuse against what the paper says of it, and in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geofuse.degradation.spatial import SpatialOperator
from geofuse.errors import InputError, UsageError
from geofuse.methods.base import SceneModel, TileData, silent
from geofuse.methods.mossfuse import KnownDegradation, MossFuse, MossFuseOptions, MossFuseRecipe
from geofuse.methods.mossfuse_layers import Aggregation, DilatedReparam, SpectralAttention, collecting
from geofuse.methods.mossfuse_network import (
    Decoupled,
    Degradation,
    LossWeights,
    MossFuseNetwork,
    clustering_loss,
    losses,
    recorrupted,
    whitened_gap,
)
from geofuse.methods.mossfuse_start import SceneStatistics, detail
from geofuse.methods.trainable import Plan
from geofuse.methods.weights import Card, load_weights, save_weights
from geofuse.sensors.psf import Psf
from geofuse.tiling import Edges
from geofuse.training import PatchSampler, TrainingOptions, TrainingScene, train

C, M, RATIO = 6, 2, 4
RESPONSE = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.3, 0.5]])


def weighty(network, seed=0):
    """Give every weight a random value, so that every path matters, and batch statistics that are not the first ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return network.eval()


def scene(seed=0, size=64):
    """A smooth scene of three spectra, and the pair that sensors would see of it."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(3, size, size)).cumsum(1).cumsum(2)
    field = (field - field.min((1, 2), keepdims=True)) / np.ptp(field, axis=(1, 2))[:, None, None]
    fine = np.einsum("bk,kij->bij", rng.random((C, 3)) + 0.2, field).astype(np.float32)
    hsi = SpatialOperator(Psf.parse("gaussian"), RATIO, size, size).forward(fine)
    return fine, hsi.astype(np.float32), np.einsum("cb,bij->cij", RESPONSE, fine).astype(np.float32)


def test_parameters_are_the_papers_within_ten_percent():
    assert sum(p.numel() for p in MossFuseNetwork(31, 3, 4).parameters()) / 1e6 == pytest.approx(0.54, rel=0.1)


def test_shapes_along_the_network():
    found = MossFuseNetwork(C, M, RATIO, 8)(torch.rand(2, C, 8, 6), torch.rand(2, M, 32, 24), torch.rand(2, M, 8, 6))
    assert found.fused.shape == (2, C, 32, 24)
    assert found.msi.shape == (2, M, 32, 24)
    assert found.hsi.shape == (2, C, 8, 6)
    assert found.coarse_msi.shape == (2, M, 8, 6)
    assert {tuple(getattr(found.features, k).shape) for k in Decoupled.__dataclass_fields__} == {(2, 8, 32, 24)}


def test_spectral_attention_against_plain_linear_algebra():
    block = weighty(SpectralAttention(8, heads=2))
    x = torch.randn(2, 8, 3, 5)
    q, k, v = (t.detach().numpy().transpose(1, 0, 2, 3).reshape(8, -1) for t in block.make_qkv(x).chunk(3, dim=1))
    seen = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        a, b = (m[rows] / np.linalg.norm(m[rows], axis=1, keepdims=True) for m in (q, k))
        scores = np.exp(a @ b.T * float(block.temperature[head].detach()))
        seen.append(scores / scores.sum(axis=1, keepdims=True) @ v[rows])
    pixels = torch.from_numpy(np.concatenate(seen).reshape(8, 2, 3, 5).transpose(1, 0, 2, 3))
    assert torch.allclose(block(x), block.out(pixels), atol=1e-5)


def test_parallel_kernels_are_one_large_kernel():
    """What :meth:`merged` gives does in evaluation what the parallel convolutions with their normalisations do."""
    block = weighty(DilatedReparam(5))
    x = torch.randn(2, 5, 20, 17)
    apart = sum(norm(conv(x)) for conv, norm in zip(block.convs, block.norms, strict=True))
    assert torch.allclose(block(x), apart, atol=1e-5)


@pytest.mark.parametrize("spatial", [True, False])
def test_zero_complementary_features_without_bias_change_nothing_of_the_convolutional_branch(spatial):
    block = weighty(Aggregation(8, spatial=spatial))
    with torch.no_grad():
        block.local.bias.zero_()
    shared, nothing = torch.randn(1, 8, 6, 6), torch.zeros(1, 8, 6, 6)
    alone = shared + block.out(block.attention(shared, block.gate(nothing)))
    assert torch.allclose(block(shared, nothing), alone, atol=1e-6)


@pytest.mark.parametrize("spatial", [True, False])
def test_complementary_features_decide_what_the_shared_ones_attend_to(spatial):
    """The gate on the queries is not lost in their normalisation."""
    block = weighty(Aggregation(8, spatial=spatial))
    with torch.no_grad():
        block.attention.temperature.fill_(30.0)  # so that small differences of queries show
    shared, one, other = torch.randn((3, 1, 8, 6, 6), generator=torch.Generator().manual_seed(2))
    seen = [block.attention(shared, block.gate(block.local(5.0 * features))) for features in (one, other)]
    assert (seen[0] - seen[1]).abs().max() > 1e-4 * seen[0].abs().max()


def test_the_clustering_loss_is_equation_8():
    rng = np.random.default_rng(0)
    parts = {k: rng.normal(size=(1, 4, 2, 2)) for k in Decoupled.__dataclass_fields__}
    f = Decoupled(**{k: torch.from_numpy(v) for k, v in parts.items()})

    def similarity(a, b):
        cosines = [
            parts[a][0, :, i, j]
            @ parts[b][0, :, i, j]
            / np.linalg.norm(parts[a][0, :, i, j])
            / np.linalg.norm(parts[b][0, :, i, j])
            for i in range(2)
            for j in range(2)
        ]
        return np.exp(np.mean(cosines))

    shared = similarity("msi_shared", "hsi_shared")
    apart = (
        similarity("msi_shared", "msi_complementary")
        + similarity("hsi_shared", "hsi_complementary")
        + similarity("msi_complementary", "hsi_complementary")
    )
    assert float(clustering_loss(f, LossWeights())) == pytest.approx(-np.log(shared / (shared + apart)))
    assert float(clustering_loss(f, LossWeights(attract=False))) == pytest.approx(np.log(apart))
    assert float(clustering_loss(f, LossWeights(repel=False))) == pytest.approx(-np.log(shared))


def test_the_losses_are_equations_9_to_14():
    fine, hsi, msi = scene(size=32)
    x, y = torch.from_numpy(hsi)[None], torch.from_numpy(msi)[None]
    network = weighty(MossFuseNetwork(C, M, RATIO, 8))
    model = SceneModel(RESPONSE, Psf.parse("gaussian"), RATIO, np.full(C, np.nan))
    known = KnownDegradation(model, torch.as_tensor(RESPONSE, dtype=torch.float32))
    found = network(x, y, known.blur(y))
    terms = losses(found, x, y, known.blur, known.respond, LossWeights())
    z, blur = found.fused.detach().numpy()[0], SpatialOperator(model.psf, RATIO, 32, 32)

    def mean(a, b):
        return np.abs(np.asarray(a.detach() if torch.is_tensor(a) else a) - b).mean()

    coarse = blur.forward(msi)
    assert float(terms.aggregation) == pytest.approx(
        mean(np.einsum("cb,bij->cij", RESPONSE, z), msi) + mean(blur.forward(z), hsi), rel=1e-4
    )
    expected = mean(found.msi[0], msi) + mean(found.hsi[0], hsi) + mean(found.coarse_msi[0], coarse)
    expected += mean(found.coarse_msi[0], np.einsum("cb,bij->cij", RESPONSE, hsi))
    assert float(terms.constraint) == pytest.approx(expected, rel=1e-4)
    assert float(terms.degradation) == pytest.approx(mean(coarse, np.einsum("cb,bij->cij", RESPONSE, hsi)), rel=1e-3, abs=1e-6)
    parts = [float(t) for t in (terms.aggregation, terms.clustering, terms.constraint, terms.degradation)]
    assert float(terms.total(LossWeights())) == pytest.approx(parts[0] + 0.1 * parts[1] + parts[2] + parts[3], rel=1e-5)


def test_the_psf_is_equation_6():
    degradation = Degradation(C, M, RATIO)
    with torch.no_grad():
        degradation.log_widths.copy_(torch.log(torch.tensor([2.0, 1.0])))
        degradation.angle.fill_(0.4)
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    inverse = np.linalg.inv(turn @ np.diag([4.0, 1.0]) @ turn.T)
    axis = np.arange(16) - 7.5
    expected = np.array([[np.exp(-0.5 * np.array([x, y]) @ inverse @ np.array([x, y])) for x in axis] for y in axis])
    assert degradation.kernel().detach().numpy() == pytest.approx(expected / expected.sum(), abs=1e-6)
    response = degradation.response().detach().numpy()
    assert (response >= 0).all()
    assert response.sum(axis=1) == pytest.approx(1.0)


def test_the_blur_keeps_a_constant_and_places_a_point():
    degradation = Degradation(C, M, RATIO)
    assert torch.allclose(degradation.blur(torch.full((1, 1, 32, 32), 3.0)), torch.tensor(3.0))
    point = torch.zeros(1, 1, 32, 32)
    point[0, 0, 13:15, 17:19] = 1.0  # the middle of coarse pixel (3, 4)
    assert int(degradation.blur(point).detach().argmax()) == 3 * 8 + 4


def test_psf_and_srf_are_found_from_a_pair():
    """The degradation loss (12) alone, on a pair whose PSF and SRF are known."""
    _, hsi, msi = scene(size=128)
    sampler = PatchSampler([TrainingScene("s", hsi, msi)], 64)
    model = Degradation(C, M, RATIO)

    class Recipe:
        def loss(self, network, generator):
            batch = sampler.sample(2, generator)
            return (network.blur(batch.msi) - network.respond(batch.hsi))[..., 2:-2, 2:-2].abs().mean()

        def learning_rate(self, step):
            return 0.003 * (1 - step / 150)

        def frozen(self, network, step):
            return ()

    before = float(Recipe().loss(model, torch.Generator().manual_seed(0)).detach())
    train(model, Recipe(), TrainingOptions(150, 150, memory=0.5), torch.Generator().manual_seed(0), report=silent)
    after = float(Recipe().loss(model, torch.Generator().manual_seed(0)).detach())
    assert after < 0.2 * before


def test_it_starts_from_a_regression_that_differs_from_place_to_place():
    """Left and right half have different spectra for the same MSI; away from the seam the start is right in both."""
    rng = np.random.default_rng(0)
    msi = rng.normal(size=(M, 96, 96)).cumsum(1).cumsum(2)
    msi = (0.2 + msi - msi.min()) / np.ptp(msi)
    left, right = rng.random((2, C, M))
    fine = np.concatenate([np.einsum("kc,cij->kij", g, y) for g, y in ((left, msi[..., :48]), (right, msi[..., 48:]))], axis=2)
    blur = SpatialOperator(Psf.parse("gaussian"), RATIO, 96, 96)
    x, y, z = (torch.from_numpy(a.astype(np.float32))[None] for a in (blur.forward(fine), msi, blur.forward(msi)))
    found = MossFuseNetwork(C, M, RATIO, 8).fuse(x, y, z)[0].detach().numpy()  # its last layer is still zero
    inside = np.r_[8:20, 76:88]  # coarse windows of 7 pixels do not reach across the seam
    everywhere = np.linalg.lstsq(msi.reshape(M, -1).T, fine.reshape(C, -1).T, rcond=None)[0].T
    errors = [np.sqrt(((z - fine)[:, 8:-8, inside] ** 2).mean()) for z in (found, np.einsum("kc,cij->kij", everywhere, msi))]
    assert errors[0] < 0.02 * fine.std()
    assert errors[1] > 0.2 * fine.std()


def test_a_correction_stays_within_the_scenes_subspace():
    _, hsi, msi = scene(size=64)
    x, y, z = (torch.from_numpy(a)[None] for a in (hsi, msi, SpatialOperator(Psf.parse("gaussian"), RATIO, 64, 64).forward(msi)))
    network = weighty(MossFuseNetwork(C, M, RATIO, 8))
    found = SceneStatistics.of([(x[0], y[0], z[0])])
    first = network.estimate([found], x, y, z)
    change = (network.fuse(x, y, z) - first)[0].detach().flatten(1)
    left = change - found.vectors @ (found.inverse @ change)
    assert change.abs().max() > 1e-3
    assert left.abs().max() < 1e-3 * change.abs().max()


def test_a_degradation_starts_from_the_response_and_psf_that_are_known():
    degradation = Degradation(C, M, RATIO)
    gains = np.array([2.0, 0.5])[:, None]
    degradation.start_from(torch.from_numpy(gains * RESPONSE), Psf.parse("gaussian:1.3"))
    assert degradation.response().detach().numpy() == pytest.approx(RESPONSE, abs=1e-3)
    seen = degradation.respond(torch.ones(1, C, 2, 2))[0, :, 0, 0].detach().numpy()
    assert seen == pytest.approx(gains[:, 0], rel=1e-4)
    assert 2.3548 * degradation.log_widths.detach().exp().numpy() == pytest.approx(1.3 * RATIO, rel=0.05)
    degradation.start_from(torch.zeros(M, C))
    assert degradation.response().detach().numpy() == pytest.approx(RESPONSE, abs=1e-3)  # rows of zeros tell nothing


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_loss_between_recorrupted_images_is_that_against_the_clean_one_and_a_constant(alpha):
    """Whatever is made of the one image: here what keeps, halves and shifts it."""
    generator, noise = torch.Generator().manual_seed(0), torch.tensor([[0.2, 3.0]])
    clean = torch.rand((1, 2, 400, 400), generator=generator)
    image = clean + noise[:, :, None, None] * torch.randn(clean.shape, generator=generator)
    seen, other = recorrupted(image, noise, alpha, generator)
    for made in (seen, 0.5 * seen, seen + 0.1):
        gap, true_gap = whitened_gap(made, other, noise), whitened_gap(made, clean, noise)
        assert float(gap - true_gap) == pytest.approx(1.0 + alpha**-2, rel=0.02)


def test_detail_is_counted_in_the_noise_and_nothing_where_all_is_flat():
    _, hsi, msi = scene(size=64)
    x, y = (torch.from_numpy(a)[None] for a in (hsi, msi))
    coarse = torch.from_numpy(SpatialOperator(Psf.parse("gaussian"), RATIO, 64, 64).forward(msi))
    found = [SceneStatistics.of([(x[0], y[0], coarse)])]
    assert detail(torch.full((1, M, 16, 16), 3.0), found).abs().max() < 0.02  # rounding, in noise that hardly is
    point = torch.zeros(1, M, 16, 16)
    point[0, :, 8, 8] = 2.0 * found[0].noise
    assert detail(point, found)[0, :, 8, 8].numpy() == pytest.approx(np.arcsinh(2.0 * np.repeat([8 / 9, 48 / 49], M)), rel=1e-4)


def error_after(steps, fine, hsi, msi):
    """Root mean square error of what is fused after so many steps on the pair at hand."""
    tile = TileData(hsi, msi, (0, 0), Edges(True, True, True, True))
    method = MossFuse(MossFuseOptions(steps=steps, patch=64, width=16))
    method.fit(SceneModel(RESPONSE, Psf.parse("gaussian"), RATIO, np.full(C, np.nan), 3), [tile], silent)
    return float(np.sqrt(((method.fuse(tile, silent) - fine) ** 2).mean()))


@pytest.mark.slow
def test_from_noisy_images_it_learns_to_be_nearer_to_the_clean_one():
    fine, hsi, msi = scene(size=96)
    rng = np.random.default_rng(1)
    hsi, msi = (a + (0.02 * np.sqrt((a**2).mean()) * rng.normal(size=a.shape)).astype(np.float32) for a in (hsi, msi))
    errors = [error_after(steps, fine, hsi, msi) for steps in (0, 100)]
    assert errors[1] < 0.97 * errors[0]


@pytest.mark.slow
def test_after_learning_from_the_pair_at_hand_it_is_far_above_the_interpolation_and_keeps_what_it_started_from():
    fine, hsi, msi = scene(size=64)
    errors = [error_after(steps, fine, hsi, msi) for steps in (0, 60)]
    interpolated = hsi.repeat(RATIO, axis=1).repeat(RATIO, axis=2)
    assert errors[1] < 0.5 * np.sqrt(((interpolated - fine) ** 2).mean())
    assert errors[1] < 1.1 * errors[0]  # without noise it gains nothing in so few steps
    assert errors[1] != errors[0]


@pytest.fixture
def path(tmp_path):
    card = Card("mossfuse", C, M, RATIO, np.full(C, np.nan), RESPONSE, "s", {"width": 8}, ("a",))
    model = MossFuse(MossFuseOptions(width=8)).make_network(card, torch.Generator().manual_seed(0))
    weighty(model.network)
    save_weights(tmp_path / "w.safetensors", card, model)
    return tmp_path / "w.safetensors"


def test_a_tile_with_its_halo_gives_what_the_whole_scene_gives(path):
    _, hsi, msi = scene(size=256)
    model = SceneModel(RESPONSE, Psf.parse("gaussian"), RATIO, np.full(C, np.nan), 3)
    whole = TileData(hsi, msi, (0, 0), Edges(True, True, True, True))
    method = MossFuse(MossFuseOptions(patch=64))
    method.adopt_weights(path, *load_weights(path))
    method.fit(model, [whole], silent)
    halo, core = method.halo * RATIO, slice(112, 144)
    rows = slice(core.start - halo, core.stop + halo)
    coarse = slice(rows.start // RATIO, rows.stop // RATIO)
    tile = TileData(hsi[:, coarse], msi[:, rows], (rows.start, 0), Edges(False, False, True, True))
    one, other = method.fuse(whole, silent)[:, core], method.fuse(tile, silent)[:, halo : halo + 32]
    assert np.abs(one - other).max() < 1e-4 * one.std()


def test_what_is_kept_of_a_scene_is_forgotten_with_the_next():
    network = weighty(MossFuseNetwork(C, M, RATIO, 8))
    x, y, z = torch.rand(1, C, 4, 4), torch.rand(1, M, 16, 16), torch.rand(1, M, 4, 4)
    with torch.no_grad():
        with collecting(network):
            first = network.fuse(x, y, z)
        assert torch.equal(network.fuse(x, y, z), first)
        other = torch.rand(1, C, 4, 4)
        frozen = network.fuse(other, y, z)
        with collecting(network):
            fresh = network.fuse(other, y, z)
    assert not torch.allclose(frozen, fresh)


def test_a_recipe_of_a_plan_learns_the_degradation_too():
    _, hsi, msi = scene(size=64)
    plan = Plan(PatchSampler([TrainingScene("s", hsi, msi)], 32), 10, 1, 1e-3, RESPONSE, "cpu")
    method = MossFuse(MossFuseOptions(width=8))
    card = Card("mossfuse", C, M, RATIO, np.full(C, np.nan), RESPONSE, "s", {}, ())
    model, recipe = method.make_network(card, torch.Generator().manual_seed(0)), method.recipe(plan)
    assert isinstance(recipe, MossFuseRecipe)
    recipe.loss(model, torch.Generator().manual_seed(0)).backward()
    assert model.degradation.log_widths.grad.abs().sum() > 0
    assert model.degradation.logits.grad.abs().sum() > 0


def test_a_width_that_heads_cannot_share_and_noise_below_none_are_refused():
    with pytest.raises(UsageError, match="multiple of 4, found 10"):
        MossFuseOptions(width=10)
    with pytest.raises(UsageError, match="0 or more, found -1"):
        MossFuseOptions(recorrupt=-1)


def test_a_scene_full_of_small_holes_is_learnt_from_in_smaller_patches():
    fine, hsi, msi = scene(size=64)
    msi[:, 30:34, 5:60] = np.nan
    tile = TileData(hsi, msi, (0, 0), Edges(True, True, True, True))
    method = MossFuse(MossFuseOptions(steps=1, patch=64, width=8))
    method.fit(SceneModel(RESPONSE, Psf.parse("gaussian"), RATIO, np.full(C, np.nan)), [tile], silent)
    assert np.isfinite(method.fuse(tile, silent)).all()
    msi[:, ::8, ::8] = np.nan
    with pytest.raises(InputError, match="use another method"):
        method.fit(SceneModel(RESPONSE, Psf.parse("gaussian"), RATIO, np.full(C, np.nan)), [tile], silent)
