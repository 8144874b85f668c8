"""The training loop on a problem small enough to know the answer."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

from geofuse.errors import InputError
from geofuse.training import History, Keeping, TrainingOptions, train
from geofuse.training.loop import pays_in_bf16


class LinearRecipe:
    """Regression of y = 3 x - 1 from noisy draws; the bias can be frozen."""

    def __init__(self, freeze_bias=False):
        self.freeze_bias = freeze_bias

    def loss(self, network, generator):
        x = torch.randn(16, 1, generator=generator)
        noise = 0.1 * torch.randn(16, 1, generator=generator)
        return (network(x) - (3.0 * x - 1.0 + noise)).square().mean()

    def learning_rate(self, step):
        return 0.05

    def frozen(self, network, step):
        return [network.bias] if self.freeze_bias else []


def network():
    made = nn.Linear(1, 1)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made


def score(net):
    return {"psnr": -float((net.weight - 3.0).abs().detach() + (net.bias + 1.0).abs().detach())}


def run(folder, steps, *, resume=False, fingerprint="f", net=None, patience=0, validate=score, recipe=None):
    net = net or network()
    histories = []

    def history(step):
        histories.append(History(folder / "metrics.csv", step))
        return histories[-1]

    done = train(
        net,
        recipe or LinearRecipe(),
        TrainingOptions(steps, validate_every=20, patience=patience, memory=0.9),
        torch.Generator().manual_seed(1),
        validate=validate,
        history=history,
        keeping=Keeping(folder / "checkpoint", fingerprint, resume),
        report=lambda *_: None,
    )
    return net, done, histories[-1]


def test_it_learns_the_line(tmp_path):
    net, done, _ = run(tmp_path, 400)
    assert done == 400
    assert float(net.weight.detach()) == pytest.approx(3.0, abs=0.05)
    assert float(net.bias.detach()) == pytest.approx(-1.0, abs=0.05)


def test_resuming_gives_the_same_curve_and_weights_as_never_stopping(tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole, _, record = run(tmp_path / "whole", 200)
    calls = 0

    def dies(net):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return score(net)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 200, validate=dies)
    again, _, record_again = run(tmp_path / "broken", 200, resume=True)
    assert torch.equal(whole.weight, again.weight)
    assert torch.equal(whole.bias, again.bias)
    curves = [[(row["step"], row["loss"], row["psnr"]) for row in r.rows] for r in (record, record_again)]
    assert len(curves[0]) == 10
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=1e-5)  # the file keeps six digits


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(tmp_path, 40)
    with pytest.raises(InputError, match="other scenes or settings"):
        run(tmp_path, 40, resume=True, fingerprint="g")


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path):
    run(tmp_path, 40)
    whole = (tmp_path / "checkpoint").read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2], b"\x80\x02}q\x00."):
        (tmp_path / "checkpoint").write_bytes(data)
        with pytest.raises(InputError, match="damaged or no checkpoint") as error:
            run(tmp_path, 60, resume=True)
        assert "\n" not in str(error.value)


def test_with_nothing_to_resume_it_starts(tmp_path):
    assert run(tmp_path, 40, resume=True)[1] == 40


def test_bf16_where_it_pays(tmp_path, monkeypatch):
    """The loss sees bfloat16 layers exactly where the loop says that they pay."""
    seen = []

    class Watching(LinearRecipe):
        def loss(self, net, generator):
            seen.append(net(torch.ones(1, 1)).dtype)
            return super().loss(net, generator)

    for pays, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("geofuse.training.loop.pays_in_bf16", lambda device, pays=pays: pays)
        net, _, _ = run(tmp_path, 400, recipe=Watching())
        assert set(seen) == {dtype}
        assert float(net.weight.detach()) == pytest.approx(3.0, abs=0.05)
        seen.clear()


def test_a_cpu_without_matrix_units_keeps_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False}, raising=False)
    assert not pays_in_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert pays_in_bf16(torch.device("cpu"))


def test_frozen_parameters_stay(tmp_path):
    net, _, _ = run(tmp_path, 100, recipe=LinearRecipe(freeze_bias=True))
    assert float(net.bias.detach()) == 0.0
    assert float(net.weight.detach()) > 1.0


def test_it_stops_on_a_plateau_and_keeps_the_best_weights(tmp_path):
    scores = iter([1.0, 5.0, 4.0, 4.5, 4.9, 3.0])
    seen = []

    def validate(net):
        seen.append(float(net.weight.detach()))
        return {"psnr": next(scores)}

    net, done, record = run(tmp_path, 10_000, patience=3, validate=validate)
    assert done == 100
    assert record.best("psnr") == 5.0
    assert float(net.weight.detach()) == seen[1]


def test_metrics_are_a_csv_with_a_line_each_validation(tmp_path):
    run(tmp_path, 60)
    with open(tmp_path / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert set(rows[0]) == {"step", "seconds", "loss", "psnr"}
