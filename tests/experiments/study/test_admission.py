"""Which members may join a study, and what is said to the others."""

import os
from pathlib import Path

import pytest

from experiments.checks import ConfigError
from experiments.settings.config import Job
from experiments.settings.plan import Plan
from experiments.study import admission
from experiments.study.admission import check_numbers, check_same_data, check_study
from experiments.study.inventory import take_inventory
from experiments.study.part import part_folder, start_part
from tests.conftest import files_below
from tests.experiments.counting import count_calls
from tests.experiments.study.small_study import finish, make


def plan(*jobs: Job, swept: tuple[str, ...] = ()) -> Plan:
    return Plan(list(jobs), list(swept))


def refusal(planned: Plan) -> str:
    """The line with which a plan is refused; refusing changes nothing."""
    before = files_below(planned.folder)
    with pytest.raises(ConfigError) as raised:
        check_study(planned)
    assert files_below(planned.folder) == before
    return str(raised.value)


def test_a_new_study_and_the_same_jobs_again_are_welcome(study):
    job = make(study)
    check_study(plan(job))
    assert not study.exists()
    finish(job)
    check_study(plan(job))


def test_what_rows_tell_apart_joins(study):
    """Architecture, data set, members and what they have of their own, and the size of batches."""
    finish(make(study))
    sizes = {"features": 8, "classes": 2, "train_size": 99, "test_size": 9, "seed": 0}
    moments = {"mean": 0.0, "variance": 1.0, "correlation": 0.0}
    for changes in (
        {"model__width": 99},
        {"model__depth": 2},
        {"data": {"name": "gaussian", **sizes, **moments}},
        {"members__seed": [1, 2, 3]},
        {"members__none": False, "members__uout": {"beta": [1], "placement": ["before_bn"]}},
        {"members__lr": [0.1, 0.3]},
        {"recipe__lr": 0.2},
        {"recipe__weight_decay": 0.0},
        {"recipe__batch_size": 32},
    ):
        check_study(plan(make(study, **changes)))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"recipe__epochs": 3}, ["recipe.epochs=2", "recipe.epochs=3"]),
        ({"recipe__momentum": 0.5}, ["recipe.momentum=0.9", "recipe.momentum=0.5"]),
        ({"measure__draws": 5}, ["measure.draws=1", "measure.draws=5"]),
    ],
    ids=str,
)
def test_what_the_rows_do_not_tell_apart_is_refused_with_key_old_and_new_value(study, changes, parts):
    finish(make(study, model__width=8))
    for other in ({}, {"model__width": 8}):  # whether the width differs too makes no difference
        line = refusal(plan(make(study, **changes | other)))
        assert line.startswith("study=study: ")
        assert all(part in line for part in [*parts, "choose another study=NAME"])
    check_study(plan(make(study.with_name("other"), **changes)))


def test_another_part_of_the_same_data_set_is_refused(study):
    cifar = {"name": "cifar10", "root": "data", "download": False, "train_size": 100, "test_size": None}
    finish(make(study, data=cifar))
    check_study(plan(make(study, data=cifar | {"root": "/elsewhere"}, model__width=9)))
    line = refusal(plan(make(study, data=cifar | {"train_size": 200})))
    assert "data.train_size=100" in line
    assert "data.train_size=200" in line


def test_what_this_command_sweeps_may_differ(study):
    finish(make(study, recipe__epochs=1))
    jobs = [make(study, recipe__epochs=epochs) for epochs in (2, 3)]
    check_study(plan(*jobs, swept=("recipe.epochs",)))
    assert "recipe.epochs=1" in refusal(plan(*jobs, swept=("recipe.epoch",)))
    check_study(plan(*jobs, swept=("recipe",)))


def test_numbers_of_another_version_are_not_mixed_unless_somebody_says_so(study, monkeypatch):
    job = finish(make(study))
    more = make(study, members__seed=[0, 1, 2])
    check_numbers([more], take_inventory(study))
    monkeypatch.setattr(admission, "NUMBERS_VERSION", 7)
    check_numbers([job], take_inventory(study))  # nothing to train
    with pytest.raises(ConfigError) as raised:
        check_numbers([more], take_inventory(study))
    assert str(raised.value) == (
        f"job.mix_versions=false: 1 of the 1 parts of {study} hold numbers of version 1, this code makes version "
        "7; choose another study=NAME, or set it to true"
    )
    check_numbers([make(study, members__seed=[2], job={"mix_versions": True})], take_inventory(study))


def test_jobs_that_are_alike_in_what_must_be_are_compared_once(study, monkeypatch):
    for width in (4, 5, 6):
        finish(make(study, model__width=width))
    compared = count_calls(monkeypatch, admission, "_differences")
    check_study(plan(*(make(study, model__width=width) for width in (7, 8, 9))))
    assert compared.total() == 1


def test_a_part_that_is_not_whole_binds_nobody(study):
    start_part(make(study))
    check_study(plan(make(study, recipe__epochs=3)))


@pytest.mark.parametrize(
    "content",
    [b"", b"a: [", b"- 1", b"data: {name: digits}", b"\0", b"\xff\xfe\x80", b"[" * 500, b"garbage \x1b[31m"],
    ids=lambda content: repr(content[:20]),
)
def test_a_configuration_that_no_job_of_this_version_wrote_is_refused(study, content):
    folder = part_folder(finish(make(study)))
    (folder / "config.yaml").write_bytes(content)
    check_study(plan(make(study, members__seed=[2])))  # of the same setting, as the folder's name says
    line = refusal(plan(make(study, model__width=99)))
    assert "config.yaml is none of this version's" in line
    assert line.endswith(
        f"choose another study=NAME, or remove {folder}, whose members are then trained again"
    )


def test_a_folder_of_jobs_that_is_none_is_refused(study):
    study.mkdir()
    (study / "jobs").write_text("a file where the folder should be")
    assert refusal(plan(make(study))).startswith(f"output={study.parent}: allowed is a folder")


def test_a_link_to_nothing_is_said_to_be_one(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    line = refusal(plan(make(tmp_path / "link" / "study")))
    assert line.endswith(f"({tmp_path / 'link'}: a link to nothing)")


def test_an_output_that_cannot_be_written_is_refused_and_a_probe_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("text")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc"), Path("/proc/self/deeper")):
        line = refusal(plan(make(output / "study")))
        assert line.startswith(f"output={output}: allowed is a folder that can be written")
    (tmp_path / "study").write_text("a file where the folder should be")
    assert refusal(plan(make(tmp_path / "study"))).startswith(f"output={tmp_path}: ")
    check_study(plan(make(tmp_path / "new" / "deeper" / "study")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "study"]


def test_results_of_other_data_of_the_same_name_are_left_alone(study):
    folder = part_folder(finish(make(study), fingerprint="1 files, 9 bytes, contents 01"))
    check_same_data(study, {"digits": "1 files, 9 bytes, contents 01", "cifar10": "other"})
    with pytest.raises(ConfigError) as raised:
        check_same_data(study, {"digits": "2 files, 8 bytes, contents 02"})
    assert str(raised.value) == (
        f"data=digits: {folder} was trained on other data (1 files, 9 bytes, contents 01; now there are 2 files, "
        "8 bytes, contents 02); choose another study=NAME, or set data.root to the data of that time"
    )


def test_a_probe_that_a_killed_command_left_is_removed_by_the_next_one(tmp_path, study, monkeypatch):
    def killed(*arguments: object, **others: object) -> None:
        raise KeyboardInterrupt

    for made in (False, True):  # the probe lies in the folder above, or in the study's own
        if made:
            study.mkdir()
        before = files_below(tmp_path)
        with monkeypatch.context() as patch:
            for name in ("unlink", "rmdir"):
                patch.setattr(os, name, killed)
            with pytest.raises(KeyboardInterrupt):
                check_study(plan(make(study)))
        assert len(files_below(tmp_path)) == len(before) + 1
        check_study(plan(make(study)))
        assert files_below(tmp_path) == before
