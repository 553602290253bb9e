"""The oracle: the harness's experiment once more, in plain PyTorch, one network at a time.

Slow, obvious, and without a single import of the project. Random numbers come from outside, through
`uniform(step, site, shape) -> u in [0, 1)` and lists of batches, so that the oracle and the harness can be given
the same ones. Its networks have the harness's parameter names, so that either loads the other's weights.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Uniform = Callable[[object, str, tuple[int, ...]], Tensor]


def random_uniform(step: object, site: str, shape: tuple[int, ...]) -> Tensor:
    """Fresh numbers, when nobody needs the same ones again."""
    return torch.rand(shape)


def noise_factor(noise: str, strength: float, u: Tensor) -> Tensor:
    if noise == "dropout":
        return torch.where(u >= strength, 1 / (1 - strength), 0.0)
    if noise == "uout":
        return 1 - strength + 2 * strength * u
    if noise == "gaussian":
        return 1 + strength * torch.special.ndtri(u.double()).float()
    raise ValueError(noise)


class Noise(nn.Module):
    """Multiplies by noise in train mode, does nothing in eval mode."""

    def __init__(self, site: str, noise: str, strength: float, uniform: Uniform):
        super().__init__()
        self.site, self.noise, self.strength, self.uniform = site, noise, strength, uniform
        self.step: object = 0
        self.switched_off = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.switched_off or self.strength == 0:
            return x
        return x * noise_factor(self.noise, self.strength, self.uniform(self.step, self.site, tuple(x.shape)))


class MLP(nn.Module):
    """`depth` blocks of [noise] Linear [noise] BN ReLU, [noise], Linear; noise only where `placement` says."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        width: int,
        depth: int,
        placement: str = "none",
        noise: str = "none",
        strength: float = 0.0,
        uniform: Uniform = random_uniform,
    ):
        super().__init__()

        def site(name: str, where: str) -> nn.Module:
            return Noise(name, noise, strength, uniform) if where == placement else nn.Identity()

        self.blocks = nn.ModuleList()
        for index in range(depth):
            block = nn.Module()
            prefix = f"blocks.{index}"
            block.before_weight = site(f"{prefix}.before_weight", "before_weight" if index > 0 else "nowhere")
            block.linear = nn.Linear(inputs if index == 0 else width, width, bias=False)
            block.before_bn = site(f"{prefix}.before_bn", "before_bn")
            block.norm = nn.BatchNorm1d(width)
            self.blocks.append(block)
        self.after_last_bn = site("after_last_bn", "after_last_bn")
        self.classifier = nn.Linear(width, classes)

    def noises(self) -> list[Noise]:
        return [module for module in self.modules() if isinstance(module, Noise)]

    def forward(self, x: Tensor) -> Tensor:
        self.bn_inputs = []
        for block in self.blocks:
            x = block.before_bn(block.linear(block.before_weight(x)))
            self.bn_inputs.append(x)
            x = F.relu(block.norm(x))
        return self.classifier(self.after_last_bn(x))


def train(
    model: MLP,
    batches: Sequence[tuple[Tensor, Tensor]],
    lr: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
    one_cycle: bool = True,
) -> None:
    """Take one step of SGD for each batch, in order."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
    )
    schedule = None
    if one_cycle:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=len(batches), cycle_momentum=False
        )
    model.train()
    for step, (x, y) in enumerate(batches):
        for noise in model.noises():
            noise.step = step
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


@dataclass
class Measured:
    """A list entry for each BN layer, errors in percent."""

    train_var: list[float]
    test_var: list[float]
    moving_var: list[float]
    local_ratio: list[float]
    train_error_train_mode: float
    train_error_eval_mode: float
    test_error: float
    test_loss: float


def channel_mean_variance(batches: Sequence[Tensor]) -> float:
    """The unbiased variance of each channel over all samples, averaged over channels."""
    return torch.cat(list(batches)).double().var(0).mean().item()


@torch.no_grad()
def measure(
    model: MLP,
    train_batches: Sequence[tuple[object, Tensor, Tensor]],
    train_set: tuple[Tensor, Tensor],
    test_set: tuple[Tensor, Tensor],
) -> Measured:
    """Measure variance shift with the weights frozen; train_batches are (step, inputs, labels)."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    layers = range(len(model.blocks))
    noisy, clean = [[] for _ in layers], [[] for _ in layers]
    wrong = seen = 0
    model.train()
    for step, x, y in train_batches:
        for noise in model.noises():
            noise.step = step
        wrong += (model(x).argmax(1) != y).sum().item()
        seen += len(y)
        for layer in layers:
            noisy[layer].append(model.bn_inputs[layer])
        for layer in layers:  # the same pass again with only this layer's own noise switched off
            own = [
                m
                for m in (model.blocks[layer].before_bn, model.blocks[layer].before_weight)
                if isinstance(m, Noise)
            ]
            for noise in own:
                noise.switched_off = True
            model(x)
            clean[layer].append(model.bn_inputs[layer])
            for noise in own:
                noise.switched_off = False
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    train_var = [channel_mean_variance(batches) for batches in noisy]

    train_error_eval_mode, _ = error_and_loss(model, *train_set)
    test_var = [channel_mean_variance([x]) for x in model.bn_inputs]
    test_error, test_loss = error_and_loss(model, *test_set)
    return Measured(
        train_var=train_var,
        test_var=test_var,
        moving_var=[block.norm.running_var.mean().item() for block in model.blocks],
        local_ratio=[channel_mean_variance(clean[layer]) / train_var[layer] for layer in layers],
        train_error_train_mode=100 * wrong / seen,
        train_error_eval_mode=train_error_eval_mode,
        test_error=test_error,
        test_loss=test_loss,
    )


@torch.no_grad()
def error_and_loss(model: MLP, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Error in percent and mean cross entropy, in eval mode."""
    model.eval()
    logits = model(x)
    return 100 * (logits.argmax(1) != y).double().mean().item(), F.cross_entropy(logits, y).item()


@torch.no_grad()
def adjust(model: MLP, x: Tensor) -> None:
    """Re-estimate all BN statistics jointly from one batch that holds everything, noise off."""
    for noise in model.noises():
        noise.switched_off = True
    for block in model.blocks:
        block.norm.momentum = 1.0  # the new batch counts fully
    model.train()
    model(x)
    for noise in model.noises():
        noise.switched_off = False
    for block in model.blocks:
        block.norm.momentum = 0.1
    model.eval()


def one_cycle_lr(step: int, total: int, peak: float) -> float:
    """torch's OneCycleLR with its defaults, by its own scheduler."""
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=peak)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=total, cycle_momentum=False
    )
    for _ in range(step):
        optimizer.step()
        schedule.step()
    rate = schedule.get_last_lr()[0]
    assert math.isfinite(rate)
    return rate
