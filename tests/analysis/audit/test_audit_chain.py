"""The closure's prediction for networks that are chains which it knows, and none for any other."""

import pytest
import torch
from torch import nn

from analysis.audit import audit, diagnosis
from analysis.audit.chain import known_chain
from tests.analysis.audit.audit_models import fitted

CLASSES, FEATURES, WIDTH = 4, 16, 64


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (1024,), generator=generator)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    x = 1 + centres[labels] + 0.7 * torch.randn(1024, FEATURES, generator=generator)
    return list(zip(x.split(64), labels.split(64), strict=True))


def chain(placement: str = "before_bn", rate: float = 0.5, depth: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for index in range(depth):
        modules += [nn.Dropout(rate)] * (placement == "before_weight" and index > 0)
        modules += [nn.Linear(WIDTH if index else FEATURES, WIDTH)]
        modules += [nn.Dropout(rate)] * (placement == "before_bn")
        modules += [nn.BatchNorm1d(WIDTH), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(WIDTH, CLASSES))


@pytest.mark.parametrize("placement", ["before_bn", "before_weight"])
def test_a_trained_chain_shows_what_the_closure_predicts(placement):
    model, data = chain(placement), batches()
    with torch.no_grad():  # so that biases count: one that is left out, or is noisy as a unit is, shows
        for module in model:
            if isinstance(module, nn.Linear):
                module.bias += 0.5
    fitted(model, data, epochs=4).train()
    with torch.no_grad():  # what is stored is that of these weights: the closure knows of no moving ones
        for _ in range(5):
            for x, _ in data:
                model(x)
    table = audit(model, data)
    assert table["shift_ratio_predicted"].to_numpy() == pytest.approx(
        table["shift_ratio"].to_numpy(), rel=0.06
    )
    assert table["shift_ratio"].iloc[-1] < 0.8
    alarmed = table[table["alarm"].str.contains("noise")].iloc[-1]
    said = f"closure predicts x{alarmed.shift_ratio_predicted:.3g}, measured x{alarmed.shift_ratio:.3g}"
    assert said in diagnosis(table)


def other(index: int, module: nn.Module) -> nn.Sequential:
    model = chain()
    model[index] = module
    return model


def hooked(how: str) -> nn.Sequential:
    model = chain()
    getattr(model[4], how)(lambda *_: None)
    return model


def with_own_forward() -> nn.Sequential:
    model = chain()
    model[3].forward = torch.tanh  # type: ignore[method-assign]
    return model


def reused() -> nn.Sequential:
    model = chain()
    model[6] = model[2]
    return model


class Shifted(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


UNKNOWN = {
    "another activation": lambda: other(3, nn.GELU()),
    "another noise": lambda: other(1, nn.AlphaDropout(0.5)),
    "another rate": lambda: other(1, nn.Dropout(0.3)),
    "noise before the first weight": lambda: nn.Sequential(nn.Dropout(0.5), *chain("before_weight")),
    "noise in two places": lambda: nn.Sequential(*chain()[:4], nn.Dropout(0.5), *chain()[4:]),
    "no noise": lambda: chain("none"),
    "no ReLU between": lambda: nn.Sequential(*chain()[:3], *chain()[4:]),
    "statistics of the batch": lambda: other(2, nn.BatchNorm1d(WIDTH, track_running_stats=False)),
    "another eps": lambda: other(2, nn.BatchNorm1d(WIDTH, eps=0.1)),
    "a module used twice": reused,
    "a subclass": lambda: other(4, Shifted(WIDTH, WIDTH)),
    "a parametrisation": lambda: other(4, nn.utils.parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))),
    "a hook": lambda: hooked("register_forward_hook"),
    "a hook before": lambda: hooked("register_forward_pre_hook"),
    "a forward of its own": with_own_forward,
    "no chain": lambda: nn.ModuleList(chain()),
}


@pytest.mark.parametrize("build", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_for_certain_is_no_chain(build):
    assert known_chain(chain()) is not None
    assert known_chain(build()) is None


def test_without_labels_or_with_a_forward_of_the_users_nothing_is_predicted():
    model, data = chain(), batches()
    assert audit(model, [x for x, _ in data])["shift_ratio_predicted"].isna().all()
    asked = audit(model, data, forward=lambda model, batch: model(batch[0]))
    assert asked["shift_ratio_predicted"].isna().all()
    assert audit(nn.Sequential(nn.Flatten(), *model), data)["shift_ratio_predicted"].notna().all()
