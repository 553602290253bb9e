"""LLVM is imported for kernels alone: not with the packages, nor for plain networks, nor for stacks elsewhere."""

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
from dataclasses import replace
import torch

for name in ("layers", "networks", "training", "measuring"):
    package = importlib.import_module(f"experiments.{name}")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

from experiments.members import Member
from experiments.networks import ModelSettings, build_network
from experiments.training.stack import stack_members

mlp = ModelSettings("mlp", width=4, depth=2, norm="batch")
densenet = ModelSettings("densenet", width=4, depth=1, norm="batch")
members = [Member("none", "none", 0.0, seed, lr=0.1, weight_decay=0.0) for seed in (0, 1)]
for model in (mlp, densenet):
    for norm in ("batch", "group"):
        build = lambda seed: build_network(replace(model, norm=norm), (3, 8, 8), 10, seed)
        for train in (True, False):
            build(0).train(train)(torch.randn(64, 3, 8, 8)).sum().backward()
            # Torch's meta device stands for a GPU: it computes shapes alone.
            stack = stack_members(members, build).to("meta").train(train)
            assert stack(torch.empty(2, 64, 3, 8, 8, device="meta")).shape == (2, 64, 10)
assert "llvmlite" not in sys.modules

# A stack on a CPU is what LLVM is for.
stack_members(members, build)(torch.randn(2, 64, 3, 8, 8))
assert "llvmlite" in sys.modules
"""


def test_llvm_is_imported_for_kernels_alone():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
