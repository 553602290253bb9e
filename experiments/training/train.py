"""Training a stack: every member takes the same steps, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from experiments.data import Data
from experiments.members import Member
from experiments.networks.network import Network
from experiments.seeds import generator
from experiments.settings.recipe import Recipe
from experiments.training.augment import augmented_batches
from experiments.training.gradients import Gradients
from experiments.training.schedule import learning_rate_factor
from experiments.training.stack import ChunkNoise

# Of one epoch: columns of epochs.csv, each a value per member or one for all.
EpochRecord = dict[str, list[float] | float]


@dataclass
class Outcome:
    """How far each member of a stack came: its finished steps, and whether its loss left the finite numbers.

    `epochs` has an entry for each epoch, with nan from the epoch on in which a member diverged.
    """

    steps: list[int]
    diverged: list[bool]
    epochs: list[EpochRecord]


@dataclass
class TrainingState:
    """Where training stands between two epochs; with data and recipe, all that the next one depends on.

    Every tensor has a leading members dimension.
    """

    epoch: int  # epochs finished
    weights: dict[str, Tensor]  # all parameters and buffers of the stack
    momentum: list[Tensor]  # the optimizer's buffers, one a parameter
    finite_epochs: Tensor  # [members], finished with a finite loss
    still_finite: Tensor  # [members], bool
    records: list[EpochRecord]


@dataclass(frozen=True)
class _Update:
    """Part of a step of SGD: some parameters of neighbours who share learning rate and weight decay."""

    members: slice
    which: list[int]  # of the stack's parameters
    params: list[Tensor]  # their parts that belong to these members
    buffers: list[Tensor]
    lr: float
    weight_decay: float
    fused: bool


class StackedSGD:
    """SGD with momentum for stacked parameters, each member with its own learning rate and weight decay.

    Neighbours that share both are one slice, updated by torch's fused kernel in place. That kernel rounds the
    last numbers of a tensor, those that do not fill a vector, in another way than the others; parameters for
    which these would be different members in another stack are therefore updated operation by operation. So a
    member's weights are the same to the bit whoever is beside it.
    """

    def __init__(self, params: Sequence[Tensor], members: Sequence[Member], momentum: float, nesterov: bool):
        self.params = [param.detach() for param in params]
        self.buffers = [torch.zeros_like(param) for param in self.params]
        self.momentum, self.nesterov = momentum, nesterov and momentum > 0
        rates = [(member.lr, member.weight_decay) for member in members]
        bounds = [0, *(i for i in range(1, len(rates)) if rates[i] != rates[i - 1]), len(rates)]
        ways = {
            fused: [i for i, param in enumerate(params) if _fills_vectors(param) == fused]
            for fused in (True, False)
        }
        self.updates = [
            _Update(
                part := slice(start, stop),
                which,
                [self.params[i][part] for i in which],
                [self.buffers[i][part] for i in which],
                *rates[start],
                fused,
            )
            for start, stop in pairwise(bounds)
            for fused, which in ways.items()
        ]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], lr_factor: float) -> None:
        """Move every member by its own learning rate times `lr_factor`."""
        # The fused kernel walks through memory, not through indices, and convolutions return gradients that lie
        # otherwise than their weights.
        grads = [
            grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)
            for param, grad in zip(self.params, grads, strict=True)
        ]
        for update in self.updates:
            sgd(
                update.params,
                [grads[i][update.members] for i in update.which],
                update.buffers,  # type: ignore[arg-type]
                fused=update.fused,
                foreach=False,
                weight_decay=update.weight_decay,
                momentum=self.momentum,
                lr=update.lr * lr_factor,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
            )


def _fills_vectors(stacked: Tensor) -> bool:
    """Say whether each member's part of a stacked parameter is whole vectors of floats, 16 at the widest."""
    return stacked[0].numel() % 16 == 0


def epoch_batches(seed: int, epoch: int | str, samples: int, batch: int, device: torch.device) -> Tensor:
    """Return the sample numbers of one epoch's batches, [steps, batch]; the last, partial batch is dropped."""
    order = torch.randperm(samples, generator=generator(seed, "batches", epoch)).to(device)
    steps = samples // batch
    return order[: steps * batch].view(steps, batch)


def stacked_batches(
    data: Data, members: Sequence[Member], epoch: int | str, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each step's inputs [members, batch, *sample shape] and labels [members, batch] of one epoch.

    Members of one seed see the same batches; a chunk of one seed gets one batch expanded, not copied.
    """
    device = data.train_inputs.device
    seeds = sorted({member.seed for member in members})
    order = torch.stack([epoch_batches(s, epoch, len(data.train_inputs), batch, device) for s in seeds], 1)
    seed_index = torch.tensor([seeds.index(member.seed) for member in members], device=device)
    for index in order:  # [seeds, batch]
        if len(seeds) == 1:
            inputs, labels = data.train_inputs[index[0]], data.train_labels[index[0]]
            yield inputs.expand(len(members), *inputs.shape), labels.expand(len(members), batch)
        else:
            index = index[seed_index]
            yield _take(data.train_inputs, index), data.train_labels[index]


def _take(samples: Tensor, index: Tensor) -> Tensor:
    """samples[index]; of vectors, whole rows at a time, which is several times as fast."""
    if len(samples.shape) == 2:
        return samples.index_select(0, index.flatten()).unflatten(0, index.shape)
    return samples[index]


def train_stack(
    stack: Network,
    members: Sequence[Member],
    noise: ChunkNoise,
    data: Data,
    recipe: Recipe,
    report_steps: Callable[[int], None] = lambda steps: None,
    track: Callable[[int], Mapping[str, Tensor]] = lambda epoch: {},
    start: TrainingState | None = None,
    keep: Callable[[TrainingState], None] = lambda state: None,
) -> Outcome:
    """Train all members of `stack` in place and say how far each came.

    `report_steps` is told of finished member-steps, once an epoch. `track` is called after each epoch with its
    number and returns further columns [members] of epochs.csv; it leaves the stack as it was, but for the mode.
    Then `keep` is handed the state, whose tensors change as training goes on; a `start` made of such a one
    continues from there, to the same end as without the break.
    A member whose loss is not finite has diverged; members share no arithmetic, so its neighbours do not notice.
    """
    optimizer = StackedSGD(list(stack.parameters()), members, recipe.momentum, recipe.nesterov)
    gradients = Gradients(stack, noise, recipe.precision)
    batch, epochs = recipe.batch_size, recipe.epochs
    steps_per_epoch = len(data.train_inputs) // batch
    total_steps = epochs * steps_per_epoch
    finite_epochs = torch.zeros(len(members), device=data.train_inputs.device)
    still_finite = torch.ones(len(members), dtype=torch.bool, device=data.train_inputs.device)
    records: list[EpochRecord] = []
    step = first_epoch = 0
    if start is not None:
        stack.load_state_dict(start.weights)
        for buffer, saved in zip(optimizer.buffers, start.momentum, strict=True):
            buffer.copy_(saved)
        finite_epochs.copy_(start.finite_epochs)
        still_finite.copy_(start.still_finite)
        records, first_epoch = list(start.records), start.epoch
        step = first_epoch * steps_per_epoch
        report_steps(step * len(members))
    for epoch in range(first_epoch, epochs):
        stack.train()
        loss_sum = torch.zeros(len(members), device=data.train_inputs.device)
        factor = learning_rate_factor(recipe, step, total_steps)
        batches = stacked_batches(data, members, epoch, batch)
        if recipe.augment != "none":
            batches = augmented_batches(batches, data, members, epoch)
        for inputs, labels in batches:
            losses, grads = gradients(step, inputs, labels)
            optimizer.step(grads, learning_rate_factor(recipe, step, total_steps))
            loss_sum += losses
            step += 1
        still_finite &= loss_sum.isfinite()
        finite_epochs += still_finite
        columns = {"train_loss": loss_sum / steps_per_epoch, **track(epoch + 1)}
        records.append(
            {"epoch": epoch + 1, "learning_rate": [member.lr * factor for member in members]}
            | {key: value.where(still_finite, torch.nan).tolist() for key, value in columns.items()}
        )
        report_steps(steps_per_epoch * len(members))
        state = stack.state_dict(), optimizer.buffers, finite_epochs, still_finite, records
        keep(TrainingState(epoch + 1, *state))
    return Outcome(
        steps=[int(count) * steps_per_epoch for count in finite_epochs],
        diverged=(~still_finite).tolist(),
        epochs=records,
    )
