"""What a command line will do, found without doing it; and the line that each bad one is answered with."""

import itertools
import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from experiments.checks import ConfigError
from experiments.plan import Plan, check_data, plan_jobs

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {
    folder.name: [path.stem for path in folder.glob("*.yaml")] for folder in CONF.iterdir() if folder.is_dir()
}
SWEEP = "+sweep=variance_shift"


def plan(*arguments: str) -> Plan:
    flags = {"-m"} & set(arguments)
    return plan_jobs([argument for argument in arguments if argument not in flags], multirun=bool(flags))


def error_line(*arguments: str) -> str:
    """The text of the ConfigError that a command line must raise, after checking that it is one line."""
    with pytest.raises(ConfigError) as raised:
        check_data(plan(*arguments).jobs)
    text = str(raised.value)
    assert text
    assert len(text.splitlines()) == 1
    return text


def test_without_arguments_one_small_job_of_the_defaults():
    (job,) = plan().jobs
    assert job.folder == Path("outputs/first_look")
    assert (job.config["data"]["name"], job.config["model"]["width"]) == ("digits", 64)
    # 2 seeds of: no noise, and 2 rates at 2 placements
    assert len(job.members) == 2 * (1 + 2 * 2)


@pytest.mark.parametrize(
    ("group", "choice"),
    [(group, choice) for group, choices in GROUPS.items() if group != "sweep" for choice in choices],
)
def test_every_choice_of_every_group_composes(group, choice):
    (job,) = plan(f"{group}={choice}").jobs
    # Every value of the file arrives, unless the environment fills it in.
    for key, value in OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml")).items():
        assert job.config[group][key] == value or "${" in str(value)


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("recipe/*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
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
    (small,) = plan("recipe=paper", f"model={job.config['model']['name']}", "data=cifar10").jobs
    assert small.config["recipe"] == job.config["recipe"]


def test_a_scaled_down_recipe_says_what_it_does():
    (job,) = plan("recipe=cpu", "model=wrn28_10", "data=cifar10", "data.image_size=8", "recipe.epochs=3").jobs
    assert job.config["recipe"]["scaled_down"].startswith("5000 training images of 8x8 pixels")
    assert "3 epochs of one_cycle" in job.config["recipe"]["scaled_down"]
    assert plan("recipe=cpu").jobs[0].config["recipe"]["scaled_down"].startswith("fewer blocks")


def test_the_command_line_has_the_last_word_over_a_recipe_s_network():
    (job,) = plan("recipe=cpu", "model=wrn28_10", "model.width=20", "data=cifar10", "data.image_size=8").jobs
    assert (job.config["model"]["width"], job.config["model"]["depth"]) == (20, 1)
    assert (job.config["data"]["image_size"], job.config["data"]["train_size"]) == (8, 5000)


@pytest.mark.parametrize("sweep", GROUPS["sweep"])
def test_every_sweep_composes_into_distinct_jobs_of_a_study_of_its_name(sweep):
    planned = plan(f"+sweep={sweep}")
    assert {job.folder for job in planned.jobs} == {Path("outputs") / sweep}
    trains = planned.kind == "members"  # statements need no jobs
    assert len({job.name for job in planned.jobs}) == len(planned.jobs) >= trains


@pytest.mark.parametrize("sweep", [sweep for sweep in GROUPS["sweep"] if sweep.startswith("paper_")])
def test_the_paper_s_sweeps_train_its_networks_at_its_scale_or_scaled_down(sweep):
    at_paper_scale, scaled_down = (
        plan(f"+sweep={sweep}", recipe).jobs for recipe in ("recipe=paper", "recipe=cpu")
    )
    assert plan(f"+sweep={sweep}").jobs == at_paper_scale
    for large, small in zip(at_paper_scale, scaled_down, strict=True):
        assert large.config["model"]["name"] == small.config["model"]["name"]
        assert large.members[0].placement == small.members[0].placement == "none"
        epochs = 90 if sweep == "paper_table5" else 164  # of ImageNet the paper tells no number
        assert large.config["recipe"]["epochs"] >= epochs > 20 >= small.config["recipe"]["epochs"]
        assert large.config["model"]["depth"] > small.config["model"]["depth"]
        assert large.config["data"]["train_size"] is None
        assert small.config["data"]["train_size"] == 5000
        assert [(m.placement, m.noise, m.strength, m.seed) for m in large.members] == [
            (m.placement, m.noise, m.strength, m.seed) for m in small.members
        ]


def test_the_main_sweep_is_what_its_description_says():
    jobs = plan(SWEEP).jobs
    assert [job.config["model"]["width"] for job in jobs] == [16, 64, 256]
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
    assert [job.config["model"]["width"] for job in jobs] == [32, 128]
    for job in jobs:
        assert {m.strength for m in job.members if m.noise == "dropout"} == {0.2, 0.4}
        assert {m.seed for m in job.members} == {0, 1}
    (job,) = plan(*flag, SWEEP, "model.width=32").jobs
    assert job.config["model"]["width"] == 32


def test_swept_values_multiply_into_jobs():
    planned = plan(
        "-m", "model.width=8,16", "model.depth=range(1,4)", "recipe.lr=0.1,0.2", "members.seed=[0],[1]"
    )
    settings = {
        (
            job.config["model"]["width"],
            job.config["model"]["depth"],
            job.config["recipe"]["lr"],
            *job.config["members"]["seed"],
        )
        for job in planned.jobs
    }
    assert settings == set(itertools.product([8, 16], [1, 2, 3], [0.1, 0.2], [0, 1]))
    assert len(planned.jobs) == 2 * 3 * 2 * 2
    assert planned.swept_keys == ["model.width", "model.depth", "recipe.lr", "members.seed"]
    data = plan("-m", "data=glob(*)").jobs
    assert {job.config["data"]["name"] for job in data} == set(GROUPS["data"])


@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_of_two_values_for_one_key_the_last_one_counts(flag):
    (job,) = plan(*flag, "data=digits", "data=gaussian", "model.width=3", "model.width=4").jobs
    assert (job.config["data"]["name"], job.config["model"]["width"]) == ("gaussian", 4)


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


# What is typed, and the pieces that the line must hold: key and value, then what is allowed or the mend.
BAD = [
    # unknown names
    ("data=imagenet", "data=imagenet: allowed is one of", "digits"),
    ("data=null", "data=null: allowed is one of", "digits"),
    ("model=cnn", "model=cnn: allowed is one of", "mlp"),
    ("model.name=cnn", "model.name=cnn: allowed is one of", "mlp"),
    ("model.name=[mlp]", 'model.name=["mlp"]: allowed is one of', "mlp"),
    ("model.norm=instance", "model.norm=instance: allowed is one of batch, group, layer, none"),
    ("recipe=adam", "recipe=adam: allowed is one of", "one_cycle"),
    ("recipe.schedule=cosine", "recipe.schedule=cosine: allowed is one of one_cycle, step, constant"),
    ("+sweep=widths", "sweep=widths: allowed is one of", "variance_shift"),
    ("sweep=variance_shift", "sweep=variance_shift", "write +sweep=variance_shift"),
    ("members.dropout.placement=[bn]", "members.dropout.placement=bn", "before_bn, before_weight, after_last_bn"),
    ("+members.bernoulli={rate:[0.1]}", "members.bernoulli", "members.dropout"),
    ("device=tpu", "device=tpu: allowed is auto, cpu"),
    ("device=meta", "device=meta: allowed is auto, cpu"),
    ("device=cuda:99", "device=cuda:99: allowed is auto, cpu"),
    # unknown keys
    ("modle.width=3", "modle.width=3: no such key; did you mean model.width?"),
    ("model.widht=3", "model.widht=3: no such key; did you mean model.width?"),
    ("+model.widht=3", "model.widht=3: no such key; did you mean model.width?"),
    ("++recipe.epoch=3", "recipe.epoch=3: no such key; did you mean recipe.epochs?"),
    ("+members.dropout.rates=[0.1]", "members.dropout.rates=[0.1]", "members.dropout.rate?"),
    ("+foo=1", "foo=1: no such key", "known are data, model"),
    ("foo=1", "foo=1: no such key; --help"),
    ("model.width.foo=3", "model.width.foo=3: no such key"),
    ("data.root=x", "data.root=x: no key of the chosen data, only of data=cifar10"),
    ("=3", "=3", "--help"),
    ("~modle", "~modle"),
    ("hydra.foo=3", "hydra.foo=3"),
    ("hydra/launcher=nope", "hydra/launcher=nope", "basic"),
    ("hydra.mode=FOO", "hydra.mode=FOO"),
    # not written as an override
    ("foo", "foo: nothing that Hydra can read as KEY=VALUE"),
    ("", "KEY=VALUE"),
    ("model.width=[", "model.width=[: nothing that Hydra can read as KEY=VALUE"),
    ("model.width='", "model.width=': nothing that Hydra can read as KEY=VALUE"),
    ("model.width=}", "KEY=VALUE"),
    ("output=${nope}", "output=${nope}", "'nope' not found"),
    ("output=${oc.env:NO_SUCH_VARIABLE}", "output=${oc.env:NO_SUCH_VARIABLE}", "not found"),
    # ranges
    ("members.dropout.rate=[1.5]", "members.dropout.rate=1.5: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[0.1,1]", "members.dropout.rate=1: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[-0.1]", "members.dropout.rate=-0.1: allowed is a drop rate in [0, 1)"),
    ("members.uout.beta=[1.01]", "members.uout.beta=1.01: allowed is", "[0, 1]"),
    ("members.uout.beta=[-1]", "members.uout.beta=-1: allowed is", "[0, 1]"),
    ("members.gaussian.std=[-0.5]", "members.gaussian.std=-0.5: allowed is", "at least 0"),
    ("members.gaussian.std=[inf]", "members.gaussian.std=inf: allowed is", "at least 0"),
    ("members.gaussian.std=[1e200]", "members.gaussian.std=1e+200: allowed is", "at least 0"),
    ("members.seed=[-1]", "members.seed=-1: allowed is a whole number of at least 0"),
    ("members.lr=[0]", "members.lr=0: allowed is a number above 0"),
    ("members.weight_decay=[-1]", "members.weight_decay=-1: allowed is a number of at least 0"),
    ("model.width=0", "model.width=0: allowed is a whole number of at least 1"),
    ("model.depth=0", "model.depth=0: allowed is a whole number of at least 1"),
    ("model.depth=-3", "model.depth=-3: allowed is a whole number of at least 1"),
    ("recipe.batch_size=1", "recipe.batch_size=1: allowed is a whole number of at least 2"),
    ("recipe.batch_size=1438", "recipe.batch_size=1438: allowed is at most 1437"),
    ("recipe.epochs=0", "recipe.epochs=0: allowed is a whole number of at least 1"),
    ("recipe.lr=0", "recipe.lr=0: allowed is a number above 0"),
    ("recipe.momentum=1", "recipe.momentum=1: allowed is a number in [0, 1)"),
    ("recipe.momentum=0", "recipe.nesterov=true: allowed is false while recipe.momentum=0"),
    ("measure.draws=0", "measure.draws=0: allowed is a whole number of at least 1"),
    ("processes=0", "processes=0: allowed is auto, or a whole number of at least 1"),
    ("chunk=0", "chunk=0: allowed is auto, or a whole number of at least 1"),
    # types
    ("model.width=1.5", "model.width=1.5: allowed is a whole number of at least 1"),
    ("model.width=wide", "model.width=wide: allowed is a whole number of at least 1"),
    ("model.width=", "model.width=: allowed is a whole number of at least 1"),
    ("model.width=null", "model.width=null: allowed is a whole number of at least 1"),
    ("model.width=true", "model.width=true: allowed is a whole number of at least 1"),
    ("model.width=[16]", "model.width=[16]: allowed is a whole number of at least 1"),
    ("model.width=1e400", "model.width=inf: allowed is a whole number of at least 1"),
    ("recipe.lr=nan", "recipe.lr=nan: allowed is a number above 0"),
    ("recipe.lr=fast", "recipe.lr=fast: allowed is a number above 0"),
    (f"recipe.lr=1{'0' * 400}", "recipe.lr=1000", "allowed is a number above 0"),
    ("recipe.nesterov=1", "recipe.nesterov=1: allowed is true or false"),
    ("members.none=maybe", "members.none=maybe: allowed is true or false"),
    ("members.seed=[a]", "members.seed=a: allowed is a whole number of at least 0"),
    ("members.seed=[0.5]", "members.seed=0.5: allowed is a whole number of at least 0"),
    ("members.seed=[true]", "members.seed=true: allowed is a whole number of at least 0"),
    ("members.dropout.rate=[half]", "members.dropout.rate=half: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[[0.1]]", "members.dropout.rate=[0.1]: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[null]", "members.dropout.rate=null: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[nan]", "members.dropout.rate=nan: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[1e400]", "members.dropout.rate=inf: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=0.5", "members.dropout.rate=0.5", "'members.dropout.rate=[0.5]'"),
    ("members.dropout=0.5", "members.dropout=0.5: allowed is null (left out) or a section"),
    ("members.dropout.placement=before_bn", "'members.dropout.placement=[before_bn]'"),
    ("members.seed=3", "members.seed=3", "'members.seed=[3]'"),
    ("members=null", "members=null", "section"),
    ("members=3", "members=3", "section"),
    ("~members", "members is missing", "section"),
    ("~members.seed", "members.seed=null", "list"),
    ("~model.width", "model.width is missing: allowed is a whole number of at least 1"),
    ("~data", "data is missing"),
    ("recipe=null", "recipe=null: allowed is one of"),
    # nothing to train, or twice the same
    ("members.seed=[]", "members.seed=[]: allowed is a list of at least one value"),
    ("members.dropout.rate=[]", "members.dropout.rate=[]: allowed is a list of at least one value"),
    ("members.dropout.placement=[]", "members.dropout.placement=[]: allowed is a list of at least one value"),
    ("members.lr=[]", "members.lr=[]: allowed is a list of at least one value"),
    ("members.none=false members.dropout=null", "members.none=false", "no member is left"),
    ("members.seed=[0,1,0]", "members.seed=[0, 1, 0]: 0 is there twice"),
    ("members.dropout.rate=[0.5,0.50]", "members.dropout.rate=[0.5, 0.5]: 0.5 is there twice"),
    ("-m model.width=16,16", "model.width", "same members"),
    ("-m members.seed=[0,1],[1,2]", "members.seed", "same members"),
    ("-m device=auto,cpu", "device", "same members"),
    # where
    ("study=../x", "study=../x: allowed is the name of a folder"),
    ("study=a/b", "study=a/b: allowed is the name of a folder"),
    ("study=.hidden", "study=.hidden: allowed is the name of a folder"),
    ("study=", "study=: allowed is the name of a folder"),
    (f"study={'a' * 300}", "study=aaa", "the name of a folder"),
    ("study=null", "study=null: allowed is the name of a folder"),
    ("output=null", "output=null"),
    ("-m study=a,b", "study=outputs/a", "outputs/b"),
    # several jobs
    ("model.width=16,32", "model.width=16,32", "-m or +sweep=NAME"),
    ("-m hydra.job.name=a,b", "hydra.job.name=a,b", "one value"),
    ("hydra.mode=${nope}", "hydra.mode=${nope}", "'nope' not found"),
    ("study=a\u202eb", "study=a b: nothing that Hydra can read"),
    ("-m model.width=range(1,2,0)", "model.width=range(1,2,0)", "value1,value2"),
    ("-m model.width=16,0", "model.width=0: allowed is a whole number of at least 1"),
    ("-m data=digits,imagenet", "data=imagenet: allowed is one of"),
    ("-m modle.width=16,32", "modle.width=16: no such key; did you mean model.width?"),
    ("-m model.width=interval(1,2)", "model.width=interval(1,2)", "value1,value2"),
    (f"{SWEEP} model.width=16,0", "model.width=0: allowed is a whole number of at least 1"),
    # data that is not there, or not for this network
    ("data=cifar10 data.root=/nowhere data.download=false", "data.root=/nowhere", "data.download=true"),
    ("recipe.schedule=step", "recipe.drops=null: allowed is a list of increasing epochs below recipe.epochs=40"),
    ("recipe=paper recipe.epochs=100", "recipe.drops=[81, 122]: allowed is a list of", "recipe.epochs=100"),
    ("recipe=paper recipe.drops=[60,20]", "recipe.drops=[60, 20]: allowed is a list of increasing epochs"),
    ("recipe=paper recipe.drops=[0.5]", "recipe.drops=[0.5]: allowed is a list"),
    ("recipe.augment=crop_flip", "recipe.augment=crop_flip: allowed is none, because digits holds no images"),
    ("recipe.augment=flip", "recipe.augment=flip: allowed is one of none, crop_flip"),
    ("recipe.drop_factor=0", "recipe.drop_factor=0: allowed is a number in (0, 1]"),
    ("data=cifar10 data.download=perhaps", "data.download=perhaps: allowed is true or false"),
    ("data=gaussian data.correlation=1", "data.correlation=1: allowed is a number in [0, 1)"),
    ("data=gaussian data.train_size=63", "recipe.batch_size=64: allowed is at most 63"),
    ("model=preresnet", "model=preresnet", "data=digits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "parts"), [(typed, parts) for typed, *parts in BAD], ids=lambda x: str(x)[:40]
)
def test_bad_input_is_answered_in_one_line_with_key_value_and_mend(typed, parts):
    line = error_line(*(typed.split(" ") if "'" not in typed else [typed]))
    assert all(part in line for part in parts), line
    assert len(line) < 300


def random_override(draw: random.Random) -> str:
    """Almost always wrong: a key of the configuration, or nearly one, and a value of any kind."""
    keys = [
        "data", "model", "recipe", "sweep", "members", "measure", "study", "device", "processes", "chunk",
        "model.width", "model.depth", "model.norm", "model.name", "recipe.epochs", "recipe.batch_size",
        "recipe.lr", "recipe.schedule", "recipe.momentum", "recipe.nesterov", "recipe.weight_decay",
        "members.seed", "members.none", "members.dropout", "members.dropout.rate", "members.dropout.placement",
        "members.uout.beta", "members.gaussian.std", "members.lr", "members.weight_decay", "measure.draws",
        "data.name", "data.root", "hydra.mode", "hydra/launcher", "hydra.launcher", "hydra.sweeper.params",
        "job", "job.shards", "job.shard", "job.retry",
    ]  # fmt: skip
    values = [
        "", "null", "nan", "-inf", "1e400", "-1", "-0.5", "1.5e300", "1" + "0" * 60, "true", "some_name", "'a b'",
        "[]", "[[]]", "[[0.1]]", "[null]", "[nan,1]", "[-1]", "[2,2]", "[a,b]", "[1e400]",
        "{}", "{a:1}", "{1:2,a:b}", "{rate:[2],placement:[x]}", "{seed:[]}", "[", "}", "'", '"', "a=b", "\\",
        "${x}", "${oc.env:NOT_THERE}", "${", "1,2", "[1],[x]", "digits,", ",", "range(0)", "range(1,2,0)",
        "choice()", "interval(0,1)", "glob(?)", "sort(1)", "int(x)",
        "é\u202e\u0000\n", "None", "!!python/object:os.system", "*", "%",
    ]  # fmt: skip
    key = draw.choice(keys)
    if draw.random() < 0.2:  # a slip of the finger
        place = draw.randrange(len(key))
        key = key[:place] + draw.choice(["", "x", ".", "@", " "]) + key[place + 1 :]
    return draw.choice(["", "", "", "", "+", "++", "~"]) + key + "=" + draw.choice(values)


@pytest.mark.long
def test_random_overrides_are_planned_or_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    lines: list[str] = []
    while len(lines) < 500:
        arguments = [random_override(draw) for _ in range(draw.choice([1, 1, 1, 2]))]
        try:
            plan_jobs(arguments, multirun=draw.random() < 0.3)
        except ConfigError as error:
            lines.append(str(error))
        except Exception as error:
            raise AssertionError(arguments) from error
    assert all(line and line.isprintable() for line in lines)
    assert not list(tmp_path.iterdir())
