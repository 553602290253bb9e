"""Small jobs and data for the tests of the core."""

import torch

from experiments.config import Job, make_job
from experiments.data import Data

RECIPE = {
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
            "kind": "members",
            "study": "test",
            "output": "outputs",
            "device": "cpu",
            "processes": 1,
            "chunk": "auto",
            "job": {"shards": 1, "shard": None, "retry": "failed"},
            "data": {"name": "digits"},
            "model": {"name": "mlp", "width": width, "depth": 3, "norm": "batch"},
            "recipe": RECIPE | (recipe or {}),
            "members": members,
            "measure": {"draws": draws},
        }
    )


def small_data(samples: int = 200, features: int = 20) -> Data:
    """Ten classes that a few steps begin to learn; means differ from zero, as those of images do."""
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples + 60, features, generator=random) + torch.linspace(-1, 1, features)
    labels = (inputs @ torch.randn(features, 10, generator=random)).argmax(1)
    return Data("small", inputs[:samples], labels[:samples], inputs[samples:], labels[samples:], 10)
