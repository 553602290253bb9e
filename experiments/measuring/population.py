"""The shift in a large batch: what BN would store if it normalised by the whole training set at once.

Between this and the paper's measurement lie two things that are no theory of noise. BN normalises by batches of
training's size, and its stored statistics are a moving average over weights that moved:

    shift_ratio = shift_ratio_population * finite_batch_factor * staleness_factor
                  behind statistics of     frozen / population    moving / frozen
                  one large batch
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.measuring.evaluate import evaluate
from experiments.measuring.moments import Moments
from experiments.measuring.shown import normalised, parts, prescribe, rms, storing_norms
from experiments.members import Member
from experiments.networks.network import Network
from experiments.training.stack import ChunkNoise


@torch.no_grad()
def population_shift(
    stack: Network,
    members: Sequence[Member],
    noise: ChunkNoise,
    inputs: Tensor,
    labels: Tensor,
    draws: int,
) -> dict[str, dict[str, Tensor]]:
    """Return what each BN layer of a stack shows behind statistics of inputs [N, *sample shape] as one batch.

    Noise is on, each input being there `draws` times, and statistics are set layer by layer, each behind those
    that are set. Then noise is off. By BN name, `shift_ratio_population` and `mean_shift_population` [members].
    The stack's own statistics stay as they are. Labels [N] change nothing.
    """
    batch = inputs.repeat(draws, *[1] * (inputs.dim() - 1))
    pieces: list[dict[str, dict[str, Tensor]]] = []
    for rows, part in parts(stack, len(members), len(batch), noise.shapes):
        part_noise = ChunkNoise(part, noise.shapes, members[rows], inputs.device)
        with part_noise.on_in_turn("population", len(batch)):
            prescribe(part, batch, lambda _, mean, variance: (torch.ones_like(mean), torch.zeros_like(mean)))
        test = evaluate(part, len(members[rows]), inputs, labels).norm_moments
        pieces.append({name: _shift(norm, test[name], draws) for name, norm in storing_norms(part).items()})
    return {
        name: {key: torch.cat([piece[name][key] for piece in pieces]) for key in columns}
        for name, columns in pieces[0].items()
    }


def _shift(norm: nn.Module, test: Moments, draws: int) -> dict[str, Tensor]:
    """Return the columns of a BN layer, of its stored statistics and the moments of its input in eval mode.

    Both variances are divided by the count, as those of a population are; noisy samples are `draws` times as many.
    """
    stored: Tensor = norm.running_var.double()  # type: ignore[operator, union-attr, assignment]
    _, mean_shift = normalised(norm, test.mean, test.variance)
    ratio = test.variance.sum(1) * (1 - 1 / test.count) / (stored.sum(1) * (1 - 1 / (draws * test.count)))
    return {"shift_ratio_population": ratio, "mean_shift_population": rms(mean_shift)}


def add_factors(layers: Sequence[dict]) -> None:
    """Add to the columns of each layer what finite batches and moving weights make of its shift in a large batch.

    Only where the shift behind frozen statistics was measured, which `measure.interventions` asks for.
    """
    for columns in layers:
        frozen = columns.get("shift_ratio_frozen")
        if frozen is not None:
            columns["finite_batch_factor"] = frozen / columns["shift_ratio_population"]
            columns["staleness_factor"] = columns["shift_ratio"] / frozen
