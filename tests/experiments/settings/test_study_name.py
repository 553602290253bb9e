"""A study that nobody named: what its name says, and that commands of one name may share a study."""

import itertools
import re
import shutil
from collections import Counter

import pytest

from experiments.checks import ConfigError
from experiments.settings.config import RESULT_KEYS
from experiments.settings.options import known_keys
from experiments.study.admission import _bound, _differences
from tests.experiments.command_line import plan
from tests.experiments.study.test_earlier import SAME as EARLIER_COMMAND
from tests.experiments.study.test_earlier import STUDY as EARLIER

NAMES = {
    # The default, and what a study grows along: members, what rows tell apart, another data set or network.
    "": "first_look",
    "model.width=128": "first_look",
    "model.depth=2 model.norm=layer recipe.lr=0.5 recipe.batch_size=32 members.seed=[7]": "first_look",
    "members.dropout.rate=[0.3] processes=2 device=cpu output=out job.shards=2": "first_look",
    "data=gaussian": "first_look",
    "data=cifar10 model=preresnet data.root=/elsewhere": "first_look",
    # As it is anyway.
    "recipe.epochs=40 measure.draws=2 recipe=one_cycle": "first_look",
    # What a study cannot mix, in the order of the files whatever was typed first.
    "recipe.epochs=3": "first_look-epochs_3",
    "measure.draws=4 recipe.epochs=3": "first_look-epochs_3-draws_4",
    "recipe.epochs=3 measure.draws=4": "first_look-epochs_3-draws_4",
    "recipe={epochs:3}": "first_look-epochs_3",
    "recipe.nesterov=false recipe.momentum=0": "first_look-momentum_0-nesterov_false",
    "recipe=paper recipe.drops=[10,15]": "first_look-paper-drops_239e7bc7",
    "data=gaussian data.mean=0": "first_look-mean_0",
    "data.validation=0.2": "first_look-validation_0.2",
    # A recipe, with the data set and the network for which it is another one.
    "recipe=paper": "first_look-paper",
    "recipe=cpu data=cifar10 model=preresnet": "first_look-cpu-cifar10-preresnet",
    # A file that is one of several of its network.
    "data=cifar10 model=preresnet_paper": "first_look-preresnet_paper",
    # What is swept is an axis of the study.
    "-m recipe.epochs=1,2": "first_look-epochs",
    "-m recipe.epochs=1,2,3 measure.draws=4": "first_look-epochs-draws_4",
    "-m recipe=paper,one_cycle": "first_look-recipe",
    "-m model.width=8,16": "first_look",
    # Sweeps.
    "+sweep=variance_shift": "variance_shift",
    "+sweep=variance_shift model.width=8 members.seed=[0,1]": "variance_shift",
    "+sweep=width recipe.epochs=20": "width",
    "+sweep=width recipe.epochs=2": "width-epochs_2",
    "+sweep=little_data data.validation=1000": "little_data",
    "+sweep=paper_fig4": "paper_fig4",
    "+sweep=paper_fig4 recipe=cpu": "paper_fig4-cpu",
    "+sweep=paper_fig4 recipe=cpu data=cifar10,cifar100": "paper_fig4-cpu",
    "+sweep=paper_fig4 model=wrn28_10": "paper_fig4-wrn28_10",
    "+sweep=variance_shift data=gaussian": "variance_shift",
    # Named by the user.
    "study=mine recipe.epochs=3": "mine",
}


@pytest.mark.parametrize(("typed", "name"), [*NAMES.items()])
def test_a_study_is_named_after_what_it_cannot_mix(typed, name):
    planned = plan(*typed.split())
    assert {job.study for job in planned.jobs} == {name}
    assert planned.folder.name == name
    # Jobs that run elsewhere are composed anew.
    if not typed.startswith("study="):
        assert all((f"study='{name}'" in line) == ("-" in name) for line in planned.overrides.values())
        assert (f"study='{name}'" in planned.launcher) == ("-" in name)


def test_commands_of_one_name_may_share_a_study_in_any_order():
    plans = [plan(*typed.split()) for typed in NAMES if not typed.startswith("study=")]
    alike = 0
    for one, other in itertools.permutations(plans, 2):
        if one.folder == other.folder:
            swept = one.swept_keys  # the later command's
            for old, new in itertools.product(other.jobs[:2], one.jobs[:2]):
                assert not _differences(_bound(old, swept), _bound(new, swept))
                alike += 1
    assert alike > 60


def test_a_name_that_is_too_long_is_short_and_another_for_other_settings():
    typed = [
        *(
            "recipe.epochs=123",
            "recipe.momentum=0.123456",
            "recipe.nesterov=false",
            "recipe.track_modes=true",
        ),
        *("recipe.drop_factor=0.5", "measure.interventions=false", "measure.flips=3"),
    ]
    names = {plan(*typed, f"measure.draws={draws}").jobs[0].study for draws in (3, 4, 5)}
    assert len(names) == 3
    assert all(re.fullmatch(r"first_look-[0-9a-f]{8}", name) for name in names)


def test_no_two_keys_of_a_job_have_the_same_last_part():
    """Else two settings would have one name."""
    names = [key.split(".") for key in known_keys()]
    lasts = {section: {parts[-1] for parts in names if parts[0] == section} for section in RESULT_KEYS}
    lasts["members"] = set()  # of which nothing is in a name
    twice = [last for last, count in Counter(itertools.chain(*lasts.values())).items() if count > 1]
    # That of a section, and a file of the user's own: one text is a network's or data's, and not both.
    assert sorted(twice) == ["name", "source", "target"]


def test_the_second_command_ever_typed_is_no_error(run):
    tiny = ["recipe.epochs=1", "processes=1", "members.seed=[0]", "members.dropout=null"]
    later = (
        ["model.width=8"],
        ["measure.draws=1"],
        ["measure.draws=1", "model.width=8"],
        ["recipe.epochs=2"],
    )
    for more in ([], *later):
        ended = run(*tiny, *more)
        assert ended.status == 0, ended.err


def test_a_command_of_a_former_version_finds_its_study_by_the_name_that_it_had(run, tmp_path):
    tiny = ["recipe.epochs=1", "processes=1", "members.seed=[0]", "members.dropout=null", "model.width=8"]
    assert run(*tiny, "study=first_look").status == 0
    ended = run(*tiny)
    assert (ended.status, ended.err) == (0, "grow: all 1 members are there in outputs/first_look\n")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["first_look"]


def test_so_does_one_whose_study_is_of_an_earlier_layout(run, tmp_path):
    shutil.copytree(EARLIER, tmp_path / "outputs" / "first_look")
    ended = run(*(argument for argument in EARLIER_COMMAND if argument != "study=earlier"))
    assert (ended.status, ended.err) == (0, "grow: all 12 members are there in outputs/first_look\n")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["first_look"]


def test_what_is_wrong_is_said_of_the_key_and_not_of_the_name():
    with pytest.raises(ConfigError, match=r"^recipe.epochs=x: allowed is a whole number of at least 1$"):
        plan("recipe.epochs=x")
