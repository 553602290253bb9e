"""What is followed from epoch to epoch: the same network, judged in train mode and in eval mode."""

import torch
from torch import Tensor

from experiments.data import Data
from experiments.measuring.evaluate import evaluate, train_mode_pass, wrong_answers
from experiments.members import Member
from experiments.networks.network import Network
from experiments.settings.recipe import Recipe
from experiments.training.stack import ChunkNoise


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
    samples, name = 0, f"modes {epoch}"
    for logits, labels in train_mode_pass(
        stack, members, noise, data, recipe.batch_size, order=name, draw=name
    ):
        wrong += wrong_answers(logits, labels)
        samples += labels.shape[1]
    return {
        "train_error_train_mode": 100 * wrong / samples,
        "train_error_eval_mode": evaluate(stack, len(members), data.train_inputs, data.train_labels).error,
        "test_error": evaluate(stack, len(members), data.test_inputs, data.test_labels).error,
    }
