"""A callback for Hugging Face's Trainer: `trainer.add_callback(VarianceShift(trainer))`."""

from collections.abc import Iterable
from typing import Any

from transformers import (  # type: ignore[import-not-found]
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..batches import Forward
from ..table import audit
from . import BATCHES, first_batches, numbers


class VarianceShift(TrainerCallback):
    """Audits the model after every epoch of training and logs the numbers of `callbacks.numbers`.

    Args:
        trainer: whose `log` is called, so that the numbers go where its own go.
        batches: what is audited on, see `audit`; None takes the first of the training data.
        count: how many of these.
        every_n_epochs: of training.
        forward: `forward(model, batch)`, where calling the model with a batch's items is not enough.

    The audit costs about three passes over its batches. Weights and random numbers go on as without it.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: Iterable[Any] | None = None,
        *,
        count: int = BATCHES,
        every_n_epochs: int = 1,
        forward: Forward | None = None,
    ):
        self.trainer, self.batches, self.count = trainer, batches, count
        self.every_n_epochs, self.forward = every_n_epochs, forward

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Audit and log."""
        if round(state.epoch or 0) % self.every_n_epochs:
            return
        model = kwargs["model"]
        batches = self.batches
        if batches is None:
            batches = first_batches(model, kwargs["train_dataloader"], self.count)
        self.trainer.log(numbers(audit(model, batches, forward=self.forward)))
