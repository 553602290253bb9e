"""What no statistics mend is named with its number and its mend, and adjust is not advised in a circle."""

import copy

import pytest
import torch
from torch import nn

from analysis.audit import adjust, audit, diagnosis
from tests.analysis.audit.audit_models import images, mlp, trained, vectors
from tests.analysis.audit.trouble_models import Pair, Steps, shuffled, sorted_batches, sound


def alarms(table):
    return {
        name: set(alarm.split(",")) - {""} for name, alarm in zip(table.layer_name, table.alarm, strict=True)
    }


def what_to_do(table):
    return diagnosis(table).partition("What to do")[2]


def test_batches_of_one_class_each_are_named_before_and_after_adjusting():
    batches = sorted_batches()
    model = trained(mlp(), batches)
    table = audit(model, batches)
    assert "batches" in alarms(table)["1"]
    assert table.batch_spread[0] > 20
    assert f"batches differ {table.batch_spread[0]:.3g} times as much as random ones (F at 1)" in diagnosis(
        table
    )
    after = audit(adjust(copy.deepcopy(model), batches), batches)
    for said in map(what_to_do, (table, after)):
        assert "Shuffle and train again" in said
        assert "adjust(model" not in said
        assert "keep up" not in said
    assert "batches" not in set().union(*alarms(audit(sound(batches), shuffled(batches))).values())


def test_two_domains_by_turns_are_named_in_images_too():
    batches = [x + 3 * (index % 2) for index, x in enumerate(images())]
    model = trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), batches)
    table = audit(model, batches)
    assert "batches" in alarms(table)["1"]
    assert "give each domain its own BN layers" in what_to_do(table)


@pytest.mark.parametrize(("batches", "batch"), [(2, 40), (3, 8), (40, 4)])
def test_random_batches_of_images_with_alike_pixels_are_no_trouble(batches, batch):
    """Every image has its own brightness: pixels are alike, samples are not."""
    torch.manual_seed(0)
    data = [torch.randn(batch, 3, 1, 1) + 0.3 * torch.randn(batch, 3, 8, 8) for _ in range(batches)]
    model = adjust(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), data)
    table = audit(model, data)
    assert 0.2 < table.batch_spread[0] < 3
    assert "batches" not in table.alarm[0]


def test_rows_that_are_no_samples_are_not_taken_for_any():
    """Steps in a row of samples that differ: 20 rows of a sample are no 20 samples."""
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 8), nn.BatchNorm1d(8))
    torch.manual_seed(0)
    batches = [5 * torch.randn(6, 1, 4) + torch.randn(6, 20, 4) for _ in range(10)]
    table = audit(adjust(model, batches), batches)
    assert table.batch_spread.isna().all()
    assert table.alarm[0] == ""


@pytest.mark.parametrize(("model", "calls"), [(Steps(), 4), (Pair(3.0), 2)], ids=["steps", "domains"])
def test_one_layer_for_calls_that_differ_is_named(model, calls):
    batches = vectors()
    table = audit(trained(model, batches), batches)
    assert "steps" in table.alarm[0]
    assert f"its {calls} calls a forward get different inputs" in diagnosis(table)
    again = audit(adjust(model, batches), batches)
    assert "steps" in again.alarm[0]
    assert f"Give each of the {calls} calls of" in what_to_do(again)
    assert "adjust(model" not in what_to_do(again)


def test_one_layer_for_calls_that_are_alike_is_sound():
    batches = vectors()
    table = audit(trained(Pair(0.0), batches), batches)
    assert table.calls[0] == 2
    assert table.alarm[0] == ""


def test_two_values_per_channel_are_named():
    batches = [x[..., :8, :8] for x in images(batches=60, batch=2)]
    model = nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 2), nn.BatchNorm2d(8)
    )
    table = audit(adjust(model, batches), batches)
    assert "few" in alarms(table)["4"]
    assert "2 values per channel in a batch at 4" in diagnosis(table)
    assert "larger batches, or replace BN by GroupNorm" in what_to_do(table)
    assert "adjust(model" not in what_to_do(table)


def test_pixels_that_are_alike_count_as_few_values():
    torch.manual_seed(0)
    batches = [torch.randn(2, 3, 1, 1) + 0.01 * torch.randn(2, 3, 8, 8) for _ in range(60)]
    table = audit(adjust(nn.Sequential(nn.BatchNorm2d(3)), batches), batches)
    assert table.alarm[0] == "few"
    assert "128 values per channel (no more than 2" in diagnosis(table)


def blocks(count: int, width: int, convolution: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(count):
        if convolution:
            layers += [nn.Conv2d(width if index else 3, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
        else:
            layers += [nn.Linear(width if index else 16, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def test_batches_of_the_audit_smaller_than_those_of_training_blame_no_layer():
    torch.manual_seed(0)
    batches = [torch.randn(60, 3, 1, 1) + 0.1 * torch.randn(60, 3, 4, 4) for _ in range(40)]
    model = trained(blocks(3, 32, convolution=True), batches)
    table = audit(model, [part for x in batches for part in x.split(2)])
    assert table.lag_ratio_high[1] < 0.9
    assert (table.alarm == "").all()
    assert "These batches, of 2 samples, are smaller than those of training" in diagnosis(table)
    model[4].running_var *= 0.5
    assert "lag" in audit(model, batches).alarm[1]


@pytest.mark.parametrize("size", [2, 8])
def test_small_batches_of_the_audit_are_no_lag(size):
    batches = vectors(batches=30, batch=64)
    table = audit(sound(batches), [part for x in batches for part in x.split(size)])
    assert table.lag_ratio[2] < 0.98
    assert set(table.alarm) == ({"few"} if size == 2 else {""})
    assert size > 2 or "Where training's batches are larger than these, no layer is to blame" in diagnosis(
        table
    )


def test_batches_of_the_audit_larger_than_those_of_training_are_said():
    batches = vectors(batches=600, batch=5)
    table = audit(sound(batches), [torch.cat(batches[at : at + 60]) for at in range(0, 600, 60)])
    assert not {"lag"} & alarms(table)["1"]
    assert "lag" in alarms(table)["7"]
    assert "training had batches of another size than 300 samples" in diagnosis(table)


def test_small_batches_that_move_the_layers_behind_are_at_fault_and_not_what_is_stored():
    batches = vectors(batches=800, batch=6)
    model = blocks(8, 32, convolution=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = None
    adjust(model, batches)
    table = audit(model, batches)
    assert "upstream" in ",".join(table.alarm)
    assert "few" in alarms(table)["1"]
    assert "adjust(model" not in what_to_do(table)
