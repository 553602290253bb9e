"""What fits into this machine is asked before it is made."""

import resource
import subprocess
import sys

import pytest

from experiments.data.gaussian import gaussian_bytes
from experiments.memory import check_memory, memory_limit
from experiments.networks import NETWORKS, check_model_config, training_bytes
from tests.experiments.small import MODEL, built, loaded
from tests.places import ROOT

GAUSSIAN = {"features": 8, "classes": 3, "train_size": 500, "test_size": 100}
MOMENTS = {"mean": 0.0, "variance": 1.0, "correlation": 0.0, "seed": 0}


def test_more_than_this_process_can_have_is_refused_with_both_numbers():
    limit = memory_limit()
    check_memory(limit)
    with pytest.raises(MemoryError, match=f"takes {limit + 1:,} bytes of memory, this machine has {limit:,}"):
        check_memory(limit + 1)


def test_a_limit_of_the_process_counts():
    code = "from experiments.memory import memory_limit; print(memory_limit())"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**28, resource.RLIM_INFINITY)),
    )
    assert int(ended.stdout) == 2**28


def test_a_made_up_set_takes_no_more_than_was_said():
    data = loaded({"name": "gaussian", **GAUSSIAN, **MOMENTS})
    tensors = (data.train_inputs, data.train_labels, data.test_inputs, data.test_labels)
    held = sum(tensor.nbytes for tensor in tensors)
    assert held < gaussian_bytes(**GAUSSIAN) < 2 * held


@pytest.mark.parametrize("name", ["mlp", "convnet", "densenet"])
def test_the_memory_of_a_network_is_known_before_it_is_made(name):
    assert name in NETWORKS
    section, shape = MODEL | {"name": name}, (3, 8, 8)
    made = sum(weight.nbytes for weight in built(section, shape, 10, seed=0).parameters())
    assert training_bytes(check_model_config(section), shape, 10) == 3 * made
