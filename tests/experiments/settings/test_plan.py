"""What a command line will do, found without doing it."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from antlr4 import ParserRuleContext
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from experiments.checks import ConfigError
from experiments.settings.config import make_job
from tests.experiments.command_line import plan
from tests.experiments.counting import count_calls
from tests.places import CONF

GROUPS = {
    folder.name: [path.stem for path in folder.glob("*.yaml")] for folder in CONF.iterdir() if folder.is_dir()
}
SWEEP = "+sweep=variance_shift"


def test_without_arguments_one_small_job_of_the_defaults():
    (job,) = plan().jobs
    assert job.folder == Path("outputs/first_look")
    assert (job.data.name, job.model.width) == ("digits", 64)
    # 2 seeds of: no noise, and 2 rates at 2 placements
    assert len(job.members) == 2 * (1 + 2 * 2)


@pytest.mark.parametrize(
    ("group", "choice"),
    [(group, choice) for group, choices in GROUPS.items() if group != "sweep" for choice in choices],
)
def test_every_choice_of_every_group_composes(group, choice):
    function = {"model": "build", "data": "load"}.get(group)
    own = [f"{group}.target=tests.experiments.own:{function}"] if choice == "custom" else []
    (job,) = plan(f"{group}={choice}", *own).jobs
    values = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    if values.pop("schedule_scale", 1) != 1:  # epochs and drops arrive scaled, see below
        del values["epochs"], values["drops"]
    # Every other value of the file arrives, unless the environment or a function of the user's fills it in.
    for key, value in values.items():
        assert job.config[group][key] == value or "${" in str(value) or (own and value is None)


@pytest.mark.parametrize(
    "path",
    # Those of a part of the paper's schedule have their values from the paper's, see below.
    [path for path in sorted(CONF.glob("recipe/*/*.yaml")) if "small_data" not in path.stem],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_what_a_recipe_sets_for_one_network_or_data_set_arrives(path):
    recipe, choice = path.stem.split("_", maxsplit=1)
    group = path.parent.name.removeprefix("for_")
    other = "data=cifar10" if group == "model" else "model=convnet"
    (job,) = plan(f"recipe={recipe}", f"{group}={choice}", other).jobs
    for section, values in OmegaConf.to_container(OmegaConf.load(path)).items():
        for key, value in values.items():
            assert job.config[section][key] == value or "${" in str(value)


@pytest.mark.parametrize(
    ("model", "epochs", "drops", "factor", "decay", "batch"),
    [
        ("preresnet_paper", 164, [81, 122], 0.1, 1e-4, 128),
        ("resnext29_8x64d", 300, [150, 225], 0.1, 5e-4, 128),
        ("wrn28_10", 200, [60, 120, 160], 0.2, 5e-4, 128),
        ("densenet_bc_100", 300, [150, 225], 0.1, 1e-4, 64),
    ],
)
def test_the_papers_recipe_is_that_of_each_of_its_networks(model, epochs, drops, factor, decay, batch):
    (job,) = plan("recipe=paper", f"model={model}", "data=cifar10").jobs
    assert job.config["recipe"].items() >= {
        "epochs": epochs, "schedule": "step", "drops": drops, "drop_factor": factor, "weight_decay": decay,
        "batch_size": batch, "lr": 0.1, "momentum": 0.9, "nesterov": False, "scaled_down": None,
    }.items()  # fmt: skip
    (by_name,) = plan("recipe=paper", f"model={job.config['model']['name']}", "data=cifar10").jobs
    assert by_name.config["recipe"] == job.config["recipe"]
    for name in (model, job.config["model"]["name"]):
        (quarter,) = plan("recipe=paper_small_data", f"model={name}", "data=cifar10").jobs
        scaled = {
            "epochs": round(epochs / 4),
            "drops": [round(drop / 4) for drop in drops],
            "checkpoint_every": 1,
        }
        named = {key: quarter.config["recipe"][key] for key in ("name", "scaled_down")}
        assert quarter.config["recipe"] == job.config["recipe"] | scaled | named
        assert named["scaled_down"].startswith("0.25 times the paper's epochs")


def test_a_schedule_is_scaled_to_whole_epochs_with_one_before_between_and_behind_drops():
    (job,) = plan("recipe.schedule_scale=0.1").jobs
    assert (job.recipe.epochs, job.recipe.drops) == (4, None)
    (again,) = plan("recipe.epochs=4").jobs
    assert job.recipe == again.recipe
    number = r"a number in \(0, 1\]"
    for scale, allowed in (("0", number), ("1.5", number), ("0.005", "between and behind")):
        with pytest.raises(ConfigError, match=rf"recipe.schedule_scale={scale}: .*{allowed}"):
            plan("recipe=paper", f"recipe.schedule_scale={scale}")


def test_a_scaled_down_recipe_says_what_it_does():
    (job,) = plan("recipe=cpu", "model=wrn28_10", "data=cifar10", "data.image_size=8", "recipe.epochs=3").jobs
    assert job.recipe.scaled_down.startswith("5000 training images of 8x8 pixels")
    assert "3 epochs of one_cycle" in job.recipe.scaled_down
    assert plan("recipe=cpu").jobs[0].recipe.scaled_down.startswith("fewer blocks")


def test_the_command_line_has_the_last_word_over_a_recipe_s_network():
    (job,) = plan("recipe=cpu", "model=wrn28_10", "model.width=20", "data=cifar10", "data.image_size=8").jobs
    assert (job.model.width, job.model.depth) == (20, 1)
    assert (job.config["data"]["image_size"], job.config["data"]["train_size"]) == (8, 5000)


@pytest.mark.parametrize("sweep", GROUPS["sweep"])
def test_every_sweep_composes_into_distinct_jobs_of_a_study_of_its_name(sweep):
    planned = plan(f"+sweep={sweep}")
    assert {job.folder for job in planned.jobs} == {Path("outputs") / sweep}
    assert len({job.name for job in planned.jobs}) == len(planned.jobs) >= 1


@pytest.mark.parametrize("sweep", [sweep for sweep in GROUPS["sweep"] if sweep.startswith("paper_")])
def test_the_paper_s_sweeps_train_its_networks_at_its_scale_or_scaled_down(sweep):
    at_paper_scale, scaled_down = (
        plan(f"+sweep={sweep}", recipe).jobs for recipe in ("recipe=paper", "recipe=cpu")
    )
    assert plan(f"+sweep={sweep}").jobs == at_paper_scale
    for large, small in zip(at_paper_scale, scaled_down, strict=True):
        assert large.model.name == small.model.name
        assert large.members[0].placement == small.members[0].placement == "none"
        epochs = 90 if sweep == "paper_table5" else 164  # of ImageNet the paper tells no number
        assert large.recipe.epochs >= epochs > 20 >= small.recipe.epochs
        assert large.model.depth > small.model.depth
        assert large.config["data"]["train_size"] is None
        assert small.config["data"]["train_size"] == 5000
        assert [(m.placement, m.noise, m.strength, m.seed) for m in large.members] == [
            (m.placement, m.noise, m.strength, m.seed) for m in small.members
        ]


def test_the_main_sweep_is_what_its_description_says():
    jobs = plan(SWEEP).jobs
    assert [job.model.width for job in jobs] == [16, 64, 256]
    noises = [("none", "none", 0.0)]
    for family, strengths, places in [
        ("dropout", [0.1, 0.3, 0.5, 0.7], ["before_bn", "before_weight", "after_last_bn"]),
        ("uout", [0.1, 0.3, 0.5, 1.0], ["before_bn", "before_weight"]),
        ("gaussian", [0.333, 0.655, 1.0, 1.528], ["before_bn", "before_weight"]),
    ]:
        noises += itertools.product(places, [family], strengths)
    for job in jobs:
        members = [(m.placement, m.noise, m.strength, m.seed) for m in job.members]
        assert sorted(members) == sorted((*noise, seed) for noise in noises for seed in range(5))
        assert job.config["recipe"].items() >= {
            "epochs": 40, "batch_size": 64, "lr": 0.1, "schedule": "one_cycle",
            "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "track_modes": False,
        }.items()  # fmt: skip


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_values_of_the_command_line_replace_those_of_the_sweep(flag):
    jobs = plan(
        *flag, SWEEP, "model.width=32,128", "members.dropout.rate=[0.2,0.4]", "members.seed=[0,1]"
    ).jobs
    assert [job.model.width for job in jobs] == [32, 128]
    for job in jobs:
        assert {m.strength for m in job.members if m.noise == "dropout"} == {0.2, 0.4}
        assert {m.seed for m in job.members} == {0, 1}
    (job,) = plan(*flag, SWEEP, "model.width=32").jobs
    assert job.model.width == 32


def test_swept_values_multiply_into_jobs():
    planned = plan(
        "-m", "model.width=8,16", "model.depth=range(1,4)", "recipe.lr=0.1,0.2", "members.seed=[0],[1]"
    )
    settings = {
        (
            job.model.width,
            job.model.depth,
            job.recipe.lr,
            *job.config["members"]["seed"],
        )
        for job in planned.jobs
    }
    assert settings == set(itertools.product([8, 16], [1, 2, 3], [0.1, 0.2], [0, 1]))
    assert len(planned.jobs) == 2 * 3 * 2 * 2
    assert planned.swept_keys == ["model.width", "model.depth", "recipe.lr", "members.seed"]
    data = plan("-m", "data=glob(*,exclude=custom)").jobs  # which needs a target
    assert {job.data.name for job in data} == set(GROUPS["data"]) - {"custom"}


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_of_two_values_for_one_key_the_last_one_counts(flag):
    (job,) = plan(*flag, "data=digits", "data=gaussian", "model.width=3", "model.width=4").jobs
    assert (job.data.name, job.model.width) == ("gaussian", 4)


def test_a_family_is_left_out_by_null_and_by_deletion():
    for override in ("members.dropout=null", "members.dropout.rate=null", "~members.dropout"):
        for flag in ([], ["-m"]):
            (job,) = plan(*flag, override, "members.gaussian.std=[1]").jobs
            assert {m.noise for m in job.members} == {"none", "gaussian"}


def test_a_whole_number_serves_where_a_fraction_may_stand():
    (job,) = plan("members.uout.beta=[1]", "recipe.lr=1", "recipe.weight_decay=0").jobs
    (same,) = plan("members.uout.beta=[1.0]", "recipe.lr=1.0", "recipe.weight_decay=0.0").jobs
    assert job.name == same.name
    assert {m.strength for m in job.members if m.noise == "uout"} == {1.0}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "model.width=8,16", "data=digits,gaussian", "recipe.lr=range(0.1,0.25,0.1)"),
        ("-m", "members.none=false", "members.dropout={rate:[0.2]},{rate:[0.3]}", "measure.draws=1,2"),
        (
            "-m",
            "members.none=false",
            "members.dropout.rate=[0.2],[0.3]",
            "members.dropout={placement:[before_bn]}",
        ),
        ("-m", "recipe=cpu,one_cycle", "recipe.epochs=2,3", "model=convnet", "data=cifar10", "study=a b"),
        ("-m", "~members.uout", "++members.seed=[0],[1]", "members.dropout=null", "recipe.name=${study}"),
        (SWEEP, "job.shards=2", "members.seed=[5,6]"),
    ],
    ids=" ".join,
)
def test_a_job_is_what_hydra_composes_of_its_overrides(arguments):
    planned = plan(*arguments)
    assert len(planned.jobs) > 1
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in planned.jobs:
            config = compose("config", planned.overrides[job.name])
            assert make_job(OmegaConf.to_container(config, resolve=True)) == job


def test_jobs_that_choose_the_same_groups_are_composed_once(monkeypatch):
    composed = count_calls(monkeypatch, ConfigLoaderImpl, "load_configuration")
    assert len(plan("-m", "recipe.lr=range(1,31)", "model.width=8,16").jobs) == 60
    assert composed.total() == 2  # what Hydra is to do, and the jobs
    assert len(plan("-m", "recipe.lr=range(1,31)", "model=mlp,convnet", "data=cifar10").jobs) == 60
    assert composed.total() == 2 + 4  # one more: whether the recipe is another one for this data


def test_planning_takes_as_long_for_each_seed_however_many_there_are(monkeypatch):
    """Counted in the pieces of the command line that Hydra's parser looks at."""
    looked_at, children = Counter(), ParserRuleContext.getChildren

    def counting(context, predicate=None):
        for child in children(context, predicate):
            looked_at[seeds] += 1
            yield child

    monkeypatch.setattr(ParserRuleContext, "getChildren", counting)
    for seeds in (100, 200, 400):
        (job,) = plan(f"members.seed={list(range(seeds))}".replace(" ", "")).jobs
        assert len(job.members) == 5 * seeds
    assert looked_at[400] - looked_at[200] == 2 * (looked_at[200] - looked_at[100])


def test_a_key_that_all_swept_data_sets_have_is_set_for_each():
    jobs = plan("-m", "data=fashion_mnist,cifar10", "data.image_size=14").jobs
    assert [(job.data.name, job.data.section["image_size"]) for job in jobs] == [
        ("fashion_mnist", 14),
        ("cifar10", 14),
    ]


def test_a_key_that_only_some_of_the_swept_data_sets_have_is_refused():
    with pytest.raises(ConfigError, match=r"data.image_size=14: no key of the chosen data"):
        plan("-m", "data=fashion_mnist,digits", "data.image_size=14")
