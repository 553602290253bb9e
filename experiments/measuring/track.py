"""What is followed from epoch to epoch: the same network, judged in train mode and in eval mode."""

import torch
from torch import Tensor

from experiments.data import Data
from experiments.measuring.evaluate import evaluate
from experiments.measuring.measure import frozen_statistics
from experiments.members import Member
from experiments.networks.network import Network
from experiments.settings.recipe import Recipe
from experiments.training.stack import ChunkNoise
from experiments.training.train import stacked_batches


@torch.no_grad()
def mode_errors(
    stack: Network, members: list[Member], noise: ChunkNoise, data: Data, recipe: Recipe, epoch: int
) -> dict[str, Tensor]:
    """Return errors [members] in percent after an epoch (1 = first), weights and statistics as they are.

    `train_error_train_mode` (noise on, every BN normalising by its batch) and `train_error_eval_mode` are of the
    same samples, the training set: the paper's Figure 5. `test_error` is of the test set, in eval mode. The
    order and the noise of the pass in train mode are its own, used for nothing else.
    """
    wrong = torch.zeros(len(members), dtype=torch.double, device=data.train_inputs.device)
    seen, batch = 0, recipe.batch_size
    stack.train()
    with frozen_statistics(stack):
        for index, (inputs, labels) in enumerate(stacked_batches(data, members, f"modes {epoch}", batch)):
            with noise.on(f"modes {epoch} {index}", batch):
                wrong += (stack(inputs).argmax(-1) != labels).sum(1)
            seen += batch
    return {
        "train_error_train_mode": 100 * wrong / seen,
        "train_error_eval_mode": evaluate(stack, len(members), data.train_inputs, data.train_labels).error,
        "test_error": evaluate(stack, len(members), data.test_inputs, data.test_labels).error,
    }
