from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from geofuse.errors import UsageError
from geofuse.methods import device
from geofuse.methods.device import available_devices, pick_device, use_threads
from geofuse.threads import ThreadChoice


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""

    def install(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        properties = SimpleNamespace(name="Pretend", total_memory=2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)

    return install


def test_the_cpu_is_always_there_and_comes_last(gpus):
    gpus(0)
    assert [found.name for found in available_devices()] == ["cpu"]
    gpus(2)
    assert [found.name for found in available_devices()] == ["cuda:0", "cuda:1", "cpu"]
    assert available_devices()[0].memory_bytes == 2**30


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [(0, "auto", "cpu"), (2, "auto", "cuda:0"), (2, "cuda", "cuda:0"), (2, "CUDA:1", "cuda:1"), (2, "cpu", "cpu")],
)
def test_a_device_is_picked_by_name(gpus, count, name, expected):
    gpus(count)
    assert pick_device(name) == expected


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1")])
def test_a_device_that_is_absent_is_refused_with_those_that_are_here(gpus, count, name):
    gpus(count)
    with pytest.raises(UsageError, match=rf"{name} is not available here, only .*cpu"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "", "mps"])
def test_a_name_that_is_no_device_is_refused(name):
    with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_what_auto_picks_here_computes():
    assert torch.ones(3, device=pick_device("auto")).sum().item() == 3


def test_torch_gets_the_number_of_threads_that_was_chosen(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "choose_threads", lambda: ThreadChoice(1, "this test", 1))
    try:
        assert use_threads() == 1 == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
