"""Where a job computes, and in how many processes."""

import os

import pytest
import torch

from experiments.checks import ConfigError
from experiments.settings.device import DEVICE, choose_device, choose_processes


def test_auto_is_a_gpu_where_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_convolutions_of_float32_are_computed_in_float32_on_a_gpu(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    choose_device(name)
    assert not torch.backends.cudnn.allow_tf32


def test_a_device_that_torch_cannot_use_here_is_refused():
    beyond = f"cuda:{torch.cuda.device_count()}"
    assert DEVICE.accepts(beyond)
    with pytest.raises(
        ConfigError, match=f"^device={beyond}: allowed is auto, cpu, or a GPU that torch can use"
    ):
        choose_device(beyond)


@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "meta", "cpu:0", "cuda:", "cuda:-1", "cuda:1e9", 0, None, ["cpu"]]
)
def test_other_names_are_no_devices(name):
    assert not DEVICE.accepts(name)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="cores of a process can be chosen on Linux only"
)
def test_a_cpu_gets_a_process_for_each_core_that_this_process_may_use():
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert choose_processes("auto", "cpu") == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert choose_processes("auto", "cpu") == len(cores)


def test_a_gpu_gets_one_process_and_a_number_is_taken_as_it_is():
    assert choose_processes("auto", "cuda") == 1
    assert choose_processes(3, "cpu") == choose_processes(3, "cuda") == 3
