"""What the theory's tests share: noise by its definition, layers of any geometry, variances per channel."""

import math

import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

SAMPLES = 1_000_000
TOLERANCE = 0.01  # per channel; the Monte Carlo error of SAMPLES is mostly below a third of it

deterministic = settings(derandomize=True, deadline=None, database=None, max_examples=15)

# Up to strengths at which SAMPLES draws mostly resolve a variance to TOLERANCE.
strengths = st.one_of(
    st.tuples(st.just("dropout"), st.floats(0.05, 0.7)),
    st.tuples(st.just("uout"), st.floats(0.1, 1.0)),
    st.tuples(st.just("gaussian"), st.floats(0.1, 1.2)),
)
seeds = st.integers(0, 2**31)


def draw_noise(noise: str, strength: float, shape, generator) -> torch.Tensor:
    """Noise by its definition, from a uniform draw u; dropout drops with probability `strength`."""
    u = torch.rand(shape, generator=generator)
    if noise == "dropout":
        return (u >= strength) / (1 - strength)
    if noise == "uout":
        return 1 + strength * (2 * u - 1)
    return 1 + strength * torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7))


def uneven_inputs(shape, generator) -> torch.Tensor:
    """Rectified inputs that break every assumption of Eq 12. -> [samples, channels, *space]

    Every channel has its own mean and spread, and all entries of a sample are correlated.
    """
    channels = (1, shape[1]) + (1,) * (len(shape) - 2)
    spread = 0.5 + torch.rand(channels, generator=generator)
    mean = 1.5 * torch.rand(channels, generator=generator) - 0.5
    common = torch.randn(shape[0], *(1,) * (len(shape) - 1), generator=generator)
    return F.relu(spread * torch.randn(shape, generator=generator) + mean + 0.5 * common)


def channel_variance(x: torch.Tensor) -> torch.Tensor:
    """Unbiased variance per channel, pooled over samples and positions. x: [samples, channels, *space]"""
    return x.detach().transpose(0, 1).flatten(1).double().var(1)


def channel_mean(x: torch.Tensor) -> torch.Tensor:
    return x.detach().transpose(0, 1).flatten(1).double().mean(1)


@torch.no_grad()
def simulate(layer, x, family, generator, noise_shape=None):
    """The layer's output in test mode, and in train mode under noise draws that make SAMPLES per channel."""
    forward = layer if layer is not None else nn.Identity()
    test = forward(x)
    draws = math.ceil(SAMPLES / (test.numel() / test.shape[1]))
    return test, torch.cat(
        [forward(x * draw_noise(*family, noise_shape or x.shape, generator)) for _ in range(draws)]
    )


def monte_carlo_error(test: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Standard error of the variance of `train` per channel, given the inputs; both as `simulate` returns them."""
    mean = channel_mean(train).view(1, -1, 1)
    of_test, of_train = (
        (y.detach().double().reshape(*y.shape[:2], -1) - mean).square().mean(2) for y in (test, train)
    )
    of_draws = of_train.unflatten(0, (-1, len(test)))  # [draws, samples, channels]
    return ((of_draws - of_test).var(0).mean(0) / len(train)).sqrt()


def tolerance_of(samples: torch.Tensor) -> float:
    """TOLERANCE, or five standard errors, relative, of the variance of independent samples [samples, ...]."""
    squares = (samples.detach().double() - samples.double().mean(0)).square()
    error = squares.std(0) / squares.mean(0) / math.sqrt(len(samples))
    return max(TOLERANCE, 5 * error.max().item())


@st.composite
def convolutions(draw, dimensions=(1, 2, 3), padding_modes=("zeros",)):
    """A convolution of any geometry, and a shape of input that it accepts: [channels, *space]."""
    n = draw(st.sampled_from(dimensions))
    groups = draw(st.sampled_from([1, 2, 3]))
    same = draw(st.integers(0, 3)) == 0
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1](
        in_channels=groups * draw(st.integers(1, 2)),
        out_channels=groups * draw(st.integers(1, 2)),
        kernel_size=draw(st.tuples(*[st.integers(1, 3)] * n)),
        stride=1 if same else draw(st.integers(1, 2)),
        padding="same" if same else draw(st.tuples(*[st.integers(0, 2)] * n)),
        dilation=draw(st.tuples(*[st.integers(1, 2)] * n)),
        groups=groups,
        padding_mode=draw(st.sampled_from(padding_modes)),
    )
    generator = torch.Generator().manual_seed(draw(seeds))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, mean=0.3, generator=generator)
    return layer, (layer.in_channels, *(draw(st.integers(5, 6)) for _ in range(n)))
