"""The one form in which every data set reaches the rest of the harness."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from experiments.checks import not_allowed
from experiments.seeds import generator

from .image_files import ImageFiles


@dataclass(frozen=True, eq=False)
class Data:
    """A whole data set as tensors on one device; N samples of one shape, N differing between train and test.

    Inputs have no unit. `digits` is standardised by one mean and standard deviation of the training part, an
    image set by one pair per channel; both divide by N, not N - 1, and both count the validation part as training.
    `gaussian` stays as drawn: its moments are its point.

    Attributes:
        name: the name in `conf/data`.
        train_inputs, test_inputs: float32 [N, *sample_shape]; flat sets [N, features], images
            [N, channel, height, width]. Those of `image_folder` are ImageFiles, which stand for such a tensor.
        train_labels, test_labels: int64 [N], from 0 to `classes` - 1.
        classes: number of classes, also of those that a small selection of samples happens to miss.
        validation_inputs, validation_labels: training samples held out, to choose settings by; empty if there are
            none.
        pixel_mean, pixel_std: of images, [channel, 1, 1]: `input * pixel_std + pixel_mean` is the pixel's value
            in [0, 255]; None for what is no image.
        fingerprint: what its files hold, see `fingerprint`; "" where there are none: settings and versions say all
            of what is drawn, or comes with a package.
    """

    name: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int
    validation_inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    validation_labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    pixel_mean: Tensor | None = None
    pixel_std: Tensor | None = None
    fingerprint: str = ""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train_inputs.shape[1:])

    def to(self, device: torch.device | str) -> Data:
        """Give the same data set on `device`, images with their channels last in memory.

        What is there already, and lies so, is shared, not copied.
        """
        return replace(
            self,
            train_inputs=_lay_out(self.train_inputs.to(device)),
            train_labels=self.train_labels.to(device),
            test_inputs=_lay_out(self.test_inputs.to(device)),
            test_labels=self.test_labels.to(device),
            validation_inputs=_lay_out(self.validation_inputs.to(device)),
            validation_labels=self.validation_labels.to(device),
            pixel_mean=None if self.pixel_mean is None else self.pixel_mean.to(device),
            pixel_std=None if self.pixel_std is None else self.pixel_std.to(device),
        )

    def first(self, samples: int) -> Data:
        """Give the first `samples` of training, and as large a share of validation and test, at least one."""
        share = samples / len(self.train_labels)

        def cut(part: Any) -> Any:
            return _select(part, torch.arange(min(len(part), max(1, round(share * len(part))))))

        return replace(
            self,
            train_inputs=_select(self.train_inputs, torch.arange(samples)),
            train_labels=self.train_labels[:samples],
            validation_inputs=cut(self.validation_inputs),
            validation_labels=cut(self.validation_labels),
            test_inputs=cut(self.test_inputs),
            test_labels=cut(self.test_labels),
        )

    def hold_out(self, validation: float) -> Data:
        """Give the same data with a part of the training samples made the validation part, by a fixed draw.

        `validation` is their number if whole, else their share; 0 holds out none. Whoever trains on the same data
        holds out the same samples. Raises ConfigError when no training sample would be left.
        """
        samples = len(self.train_labels)
        count = int(validation) if validation >= 1 else round(validation * samples)
        if count == 0:
            return self
        if count >= samples:
            raise not_allowed("data.validation", validation, f"less than all {samples} training samples")
        order = torch.randperm(samples, generator=generator("validation"))
        held, kept = order[:count].sort().values, order[count:].sort().values
        return replace(
            self,
            train_inputs=_select(self.train_inputs, kept),
            train_labels=self.train_labels[kept],
            validation_inputs=_select(self.train_inputs, held),
            validation_labels=self.train_labels[held],
        )


def _lay_out(inputs: Tensor) -> Tensor:
    if isinstance(inputs, ImageFiles) or inputs.dim() != 4:
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last)


def _select(inputs: Any, numbers: Tensor) -> Any:
    return inputs.select(numbers) if isinstance(inputs, ImageFiles) else inputs[numbers]
