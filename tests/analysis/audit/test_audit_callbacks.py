"""The callbacks in the real trainers, on digits-sized networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from analysis.audit import audit

generator = torch.Generator().manual_seed(0)
X = torch.randn(256, 8, generator=generator)
Y = (X[:, 0] > 0).long()
OFF = {
    "variance_shift/net.2",
    "variance_shift/largest",
    "variance_shift/largest_mean",
    "variance_shift/layers_off",
}

# The trainers warn of what their own dependencies deprecate, and of what a machine lacks.
pytestmark = pytest.mark.filterwarnings("ignore")


def noisy_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 64), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2)
    )


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


# --- Lightning


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., tuple[nn.Module, dict[str, Any]]]:
    pl = pytest.importorskip("lightning.pytorch", reason="pip install lightning")

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = noisy_net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def go(*callbacks: Any) -> tuple[nn.Module, dict[str, Any]]:
        pl.seed_everything(0, verbose=False)
        net = Net()
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
        )
        trainer.fit(net, DataLoader(TensorDataset(X, Y), 32, shuffle=True))
        return net, trainer.callback_metrics

    return go


def test_lightning_logs_the_shift_of_every_layer_and_trains_as_without(fit):
    from analysis.audit.callbacks.lightning import VarianceShift

    with_audit, logged = fit(VarianceShift())
    without, _ = fit()
    assert_same(with_audit, without)
    assert set(logged) == OFF
    assert logged["variance_shift/layers_off"] == 1
    table = audit(with_audit, [[X, Y]])
    assert float(logged["variance_shift/net.2"]) == pytest.approx(table["shift_ratio"][0], rel=0.1)


def test_lightning_audits_batches_of_ones_own_every_second_epoch(fit):
    from analysis.audit.callbacks.lightning import VarianceShift

    batches = list(zip(X.split(64), Y.split(64), strict=True))
    net, logged = fit(VarianceShift(batches, every_n_epochs=2))
    assert float(logged["variance_shift/net.2"]) == pytest.approx(
        audit(net, batches)["shift_ratio"][0], rel=1e-6
    )
    assert not fit(VarianceShift(every_n_epochs=3))[1]


# --- Hugging Face


class Rows(Dataset):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": X[index], "labels": Y[index]}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = noisy_net()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


@pytest.fixture
def train(tmp_path: Path) -> Callable[[bool], tuple[nn.Module, list[dict]]]:
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    transformers = pytest.importorskip("transformers", reason="pip install transformers accelerate")
    from analysis.audit.callbacks.hugging_face import VarianceShift

    def go(is_audited: bool) -> tuple[nn.Module, list[dict]]:
        transformers.set_seed(0)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=32,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
        )
        trainer = transformers.Trainer(model=Classifier(), args=arguments, train_dataset=Rows())
        if is_audited:
            trainer.add_callback(VarianceShift(trainer))
        trainer.train()
        return trainer.model, trainer.state.log_history

    return go


def test_hugging_faces_trainer_logs_the_shift_of_every_layer_and_trains_as_without(train):
    with_audit, history = train(True)
    without, _ = train(False)
    assert_same(with_audit, without)
    logged = [entry for entry in history if "variance_shift/net.2" in entry]
    assert [entry["epoch"] for entry in logged] == [1, 2]
    assert set(logged[-1]) >= OFF
    table = audit(with_audit, [{"x": X, "labels": Y}])
    assert logged[-1]["variance_shift/net.2"] == pytest.approx(table["shift_ratio"][0], rel=0.1)
