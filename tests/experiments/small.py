"""Small jobs and data for the tests of the core."""

from collections.abc import Sequence

import torch

from experiments.data import Data, check_data_config, load_data
from experiments.members import Member
from experiments.networks import build_network, check_model_config
from experiments.networks.network import Network
from experiments.settings.config import Job, make_job
from experiments.settings.recipe import check_recipe_config
from experiments.training.stack import ChunkNoise, site_shapes, stack_members
from experiments.training.train import Outcome, train_stack

CPU = torch.device("cpu")
MODEL = {"name": "mlp", "width": 12, "depth": 3, "norm": "batch"}
RECIPE_SECTION = {
    "name": "test",
    "epochs": 2,
    "batch_size": 16,
    "lr": 0.1,
    "schedule": "one_cycle",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "track_modes": False,
    "precision": "float32",
    "checkpoint_every": None,
    "augment": "none",
    "drops": None,
    "drop_factor": 0.1,
    "scaled_down": None,
}
RECIPE = check_recipe_config(RECIPE_SECTION)
EVERYTHING = {
    "seed": [0, 1],
    "none": True,
    "dropout": {"rate": [0.3, 0.6], "placement": ["before_bn", "before_weight", "after_last_bn"]},
    "uout": {"beta": [0.8], "placement": ["before_bn", "before_weight"]},
    "gaussian": {"std": [0.7], "placement": ["before_bn", "before_weight"]},
}


def small_job(members: dict, width: int = 12, recipe: dict | None = None, draws: int = 1) -> Job:
    return make_job(
        {
            "study": "test",
            "output": "outputs",
            "device": "cpu",
            "processes": 1,
            "chunk": "auto",
            "job": {"shards": 1, "shard": None, "retry": "failed"},
            "data": {"name": "digits"},
            "model": MODEL | {"width": width},
            "recipe": RECIPE_SECTION | (recipe or {}),
            "members": members,
            "measure": {"draws": draws},
        }
    )


def small_data(samples: int = 200, features: int = 20, dtype: torch.dtype = torch.float32) -> Data:
    """Ten classes that a few steps begin to learn; means differ from zero, as those of images do."""
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples + 60, features, generator=random) + torch.linspace(-1, 1, features)
    labels = (inputs @ torch.randn(features, 10, generator=random)).argmax(1)
    inputs = inputs.to(dtype)
    return Data("small", inputs[:samples], labels[:samples], inputs[samples:], labels[samples:], 10)


def loaded(section: dict) -> Data:
    """The data set of a section `data`, checked as the command line's is."""
    return load_data(check_data_config(section))


def built(section: dict, sample_shape: tuple[int, ...], classes: int, seed: int) -> Network:
    """The network of a section `model`, checked as the command line's is."""
    return build_network(check_model_config(section), sample_shape, classes, seed)


def double_network(seed: int) -> Network:
    """The network of a small job on small data, in double precision."""
    return built(MODEL, (20,), 10, seed).double()


def trained_stack(members: Sequence[Member], data: Data) -> tuple[Network, ChunkNoise, Outcome]:
    """Members trained side by side on small data in double precision, for the two epochs of RECIPE."""
    stack = stack_members(members, double_network)
    noise = ChunkNoise(stack, site_shapes(double_network(0), data.train_inputs[:2]), members, CPU)
    return stack, noise, train_stack(stack, members, noise, data, RECIPE)
