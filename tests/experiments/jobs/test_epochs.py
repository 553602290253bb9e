"""epochs.csv: what is known of every member after each epoch, against a plain loop over the same batches."""

import pytest
import torch
import torch.nn.functional as F

from experiments.jobs.chunk import run_chunk
from experiments.measuring.track import mode_errors
from experiments.training.stack import ChunkNoise, stack_members, unstack_member
from experiments.training.train import epoch_batches, train_stack
from tests.experiments.small import (
    CPU,
    EVERYTHING,
    RECIPE,
    double_network,
    small_data,
    small_job,
    trained_stack,
)

SINGLE = small_data()
DATA = small_data(dtype=torch.double)
JOB = small_job(EVERYTHING, recipe={"track_modes": True})


def test_loss_and_learning_rate_of_each_epoch_are_those_of_a_plain_loop():
    members = small_job({"seed": [4], "none": True, "lr": [0.1, 0.02]}).members
    stack = stack_members(members, double_network)
    noise = ChunkNoise(stack, dict.fromkeys(stack.sites(), (12,)), members, CPU)
    outcome = train_stack(stack, members, noise, DATA, RECIPE)
    for index, member in enumerate(members):
        model = double_network(member.seed)
        optimizer = torch.optim.SGD(
            model.parameters(), member.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, member.lr, 24, cycle_momentum=False)
        for epoch in range(2):
            record = outcome.epochs[epoch]
            assert record["epoch"] == epoch + 1
            assert record["learning_rate"][index] == pytest.approx(schedule.get_last_lr()[0])
            losses = []
            for batch in epoch_batches(member.seed, epoch, 200, 16, CPU):
                loss = F.cross_entropy(model(DATA.train_inputs[batch]), DATA.train_labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            assert record["train_loss"][index] == pytest.approx(sum(losses) / 12, rel=1e-5)


def test_errors_in_both_modes_are_those_of_each_network_by_itself():
    members = JOB.members
    stack, noise, _ = trained_stack(members, DATA)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    errors = mode_errors(stack, members, noise, DATA, RECIPE, epoch=7)
    assert all(value.equal(before[name]) for name, value in stack.state_dict().items())

    def error(logits, labels):
        return 100 * (logits.argmax(1) != labels).double().mean().item()

    for index, member in enumerate(members):
        model = unstack_member(stack, index, double_network(0))
        own_sites = {name: site for name, site in model.sites().items() if name in noise.active}
        logits, labels = [], []
        model.train()
        with torch.no_grad():
            for step, batch in enumerate(epoch_batches(member.seed, "modes 7", 200, 16, CPU)):
                for name, site in own_sites.items():
                    site.factor = noise.active[name].factor(f"modes 7 {step}", 16)[index]
                logits.append(model(DATA.train_inputs[batch]))
                labels.append(DATA.train_labels[batch])
            for site in own_sites.values():
                site.factor = None
            model = unstack_member(stack, index, model).eval()
            in_train_mode = error(torch.cat(logits), torch.cat(labels))
            assert errors["train_error_train_mode"][index] == pytest.approx(in_train_mode)
            in_eval_mode = error(model(DATA.train_inputs), DATA.train_labels)
            assert errors["train_error_eval_mode"][index] == pytest.approx(in_eval_mode)
            test_error = error(model(DATA.test_inputs), DATA.test_labels)
            assert errors["test_error"][index] == pytest.approx(test_error)


def test_following_the_modes_changes_nothing_but_its_columns():
    spec = {"seed": [0], "none": True, "dropout": EVERYTHING["dropout"]}
    plain, tracked = (
        run_chunk(job, job.members, SINGLE)
        for job in (small_job(spec), small_job(spec, recipe={"track_modes": True}))
    )
    errors = {"train_error_train_mode", "train_error_eval_mode", "test_error"}
    for table in ("members.csv", "layers.csv", "epochs.csv"):
        for one, other in zip(plain[table], tracked[table], strict=True):
            skip = {"job", "seconds", "seconds_measuring", *(errors if table == "epochs.csv" else ())}
            numbers = {key: value for key, value in one.items() if key not in skip and value == value}
            assert numbers.items() <= other.items()
    for one, other in zip(plain["epochs.csv"], tracked["epochs.csv"], strict=True):
        assert not errors & one.keys()
        assert all(0 <= other[key] <= 100 for key in errors)
    last = [row for row in tracked["epochs.csv"] if row["epoch"] == 2]
    assert [row["test_error"] for row in last] == [row["test_error"] for row in tracked["members.csv"]]


def test_a_diverged_member_has_rows_but_no_numbers_from_there_on():
    job = small_job({"seed": [0], "none": True, "lr": [0.1, 1e30]}, recipe={"track_modes": True})
    members = sorted(job.members, key=lambda m: m.lr)
    rows = run_chunk(job, members, SINGLE)["epochs.csv"]
    assert [(row["lr"], row["epoch"]) for row in rows] == [(0.1, 1), (0.1, 2), (1e30, 1), (1e30, 2)]
    for row in rows:
        for key in ("train_loss", "train_error_train_mode", "train_error_eval_mode", "test_error"):
            assert (row[key] == row[key]) == (row["lr"] == 0.1)
