"""A callback for Lightning: `Trainer(callbacks=[VarianceShift()])`."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer  # type: ignore[import-not-found]

from ..batches import Forward
from ..table import audit
from . import BATCHES, first_batches, numbers


class VarianceShift(Callback):
    """Audits the module after every epoch of training and logs the numbers of `callbacks.numbers`.

    Args:
        batches: what is audited on, see `audit`; None takes the first of the training data.
        count: how many of these.
        every_n_epochs: of training.
        forward: `forward(module, batch)`, where calling the module with a batch's inputs is not enough.

    The audit costs about three passes over its batches. Weights and random numbers go on as without it. In
    distributed training each process audits its own batches and the first one's numbers are logged.
    """

    def __init__(
        self,
        batches: Iterable[Any] | None = None,
        *,
        count: int = BATCHES,
        every_n_epochs: int = 1,
        forward: Forward | None = None,
    ):
        self.batches, self.count, self.every_n_epochs, self.forward = batches, count, every_n_epochs, forward

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit and log."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        batches = self.batches
        if batches is None:
            assert trainer.train_dataloader is not None  # an epoch of training has ended
            batches = first_batches(pl_module, trainer.train_dataloader, self.count)
        table = audit(pl_module, batches, forward=self.forward)
        pl_module.log_dict(numbers(table), rank_zero_only=True)
