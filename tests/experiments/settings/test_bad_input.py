"""The line that each bad command is answered with, before anything is trained or written."""

import random

import pytest

from experiments.checks import ConfigError
from experiments.jobs.job_data import check_data
from experiments.settings.flags import read_flags
from experiments.settings.plan import plan_jobs
from experiments.study.admission import check_study
from tests.experiments.command_line import plan

SWEEP = "+sweep=variance_shift"


def error_line(*arguments: str) -> str:
    """The text of the ConfigError that a command line must raise, after checking that it is one line."""
    with pytest.raises(ConfigError) as raised:
        check_data(plan(*arguments).jobs)
    text = str(raised.value)
    assert text
    assert len(text.splitlines()) == 1
    return text


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
    ("hydra/launcher=nope", "hydra/launcher=nope: allowed is one of basic, cores"),
    ("hydra/sweeper=optuna", "hydra/sweeper=optuna: allowed is basic; a study trains every member"),
    ("hydra/help=nope", "hydra/help=nope: allowed is one of default"),
    # Hydra's own settings, which it would look at when it launches
    ("-m hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0: allowed is null", "at least 1"),
    ("-m hydra.launcher._target_=nope.X", "hydra.launcher._target_=nope.X: Invalid plugin", "--help"),
    ("-m hydra.launcher=null", "hydra.launcher=null", "not configured"),
    ("-m +hydra.launcher.foo=3", "hydra.launcher.foo=3", "unexpected keyword argument 'foo'"),
    ("hydra.verbose=3", "hydra.verbose=3: allowed is true, false, or names of loggers"),
    ("-m hydra.sweep.subdir=${nope}", "hydra.sweep.subdir=${nope}: Interpolation key 'nope' not found"),
    ("hydra.run.dir=${nope}", "hydra.run.dir=${nope}: Interpolation key 'nope' not found"),
    ("+hydra.callbacks.x._target_=nope.Y", "hydra.callbacks.x._target_=nope.Y", "nope"),
    ("hydra.job.chdir=maybe", "hydra.job.chdir=maybe: Value 'maybe' is not a valid bool"),
    ("hydra.mode=FOO", "hydra.mode=FOO"),
    # not written as an override
    ("foo", "foo: nothing that Hydra can read as KEY=VALUE"),
    ("", "KEY=VALUE"),
    ("model.width=[", "model.width=[: nothing that Hydra can read as KEY=VALUE"),
    ("model.width='", "model.width=': nothing that Hydra can read as KEY=VALUE"),
    ("model.width=}", "KEY=VALUE"),
    ("output=${nope}", "output=${nope}", "'nope' not found"),
    ("recipe.name='${'", "recipe.name=${: ${ begins a reference, such as ${study}; write \\${"),
    ("recipe.name='a ${x'", "recipe.name=a ${x: ${ begins a reference, such as ${study}; write \\${"),
    ("members.seed=['${']", 'members.seed=["${"]: ${ begins a reference'),
    ("output='${'", "output=${: ${ begins a reference"),
    ("hydra.job.name='${'", "hydra.job.name=${: ${ begins a reference"),
    ("output=${oc.env:NO_SUCH_VARIABLE}", "output=${oc.env:NO_SUCH_VARIABLE}", "not found"),
    # ranges
    ("members.dropout.rate=[1.5]", "members.dropout.rate=1.5: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[0.1,1]", "members.dropout.rate=1: allowed is a drop rate in [0, 1)"),
    ("members.dropout.rate=[-0.1]", "members.dropout.rate=-0.1: allowed is a drop rate in [0, 1)"),
    ("members.uout.beta=[1.01]", "members.uout.beta=1.01: allowed is", "[0, 1]"),
    ("members.uout.beta=[-1]", "members.uout.beta=-1: allowed is", "[0, 1]"),
    ("members.gaussian.std=[-0.5]", "members.gaussian.std=-0.5: allowed is", "at least 0"),
    ("members.gaussian.std=[inf]", "members.gaussian.std=inf: allowed is", "at least 0"),
    ("members.gaussian.std=[1e200]", "members.gaussian.std=1e+200: allowed is", "at least 0, at most 1e19"),
    ("members.gaussian.std=[1e25]", "members.gaussian.std=1e+25: allowed is", "at least 0, at most 1e19"),
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
    ("recipe.lr=1e308", "recipe.lr=1e+308: allowed is a number above 0, at most 1e+38"),
    ("members.lr=[0.1,1e39]", "members.lr=1e+39: allowed is a number above 0, at most 1e+38"),
    ("recipe.weight_decay=1e39", "recipe.weight_decay=1e+39: allowed is a number of at least 0, at most 1e+38"),
    ("model.depth=1000000000", "model.depth=1000000000: allowed is a whole number of at least 1, at most 10000"),
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
    ("output=s3://b/k", "output=s3://b/k: allowed is the path of a folder on this machine"),
    ("output=file:///tmp", "output=file:///tmp: allowed is the path of a folder on this machine"),
    ("output='a\nb'", "output=a b: allowed is the path of a folder on this machine, of printable characters"),
    ("data=cifar10 data.root=gs://b", "data.root=gs://b: allowed is the path of a folder on this machine"),
    ('data=cifar10 data.root="a\nb"', "data.root=a b: allowed is the path of a folder"),
    ("-m study=a,b", "study=outputs/a", "outputs/b"),
    # several jobs
    ("model.width=16,32", "model.width=16,32", "-m or +sweep=NAME"),
    ("-m hydra.job.name=a,b", "hydra.job.name=a,b", "one value"),
    ("hydra.mode=${nope}", "hydra.mode=${nope}", "'nope' not found"),
    ("study=a\u202eb", "study=a b: nothing that Hydra can read"),
    ("-m model.width=range(1,2,0)", "model.width=range(1,2,0)", "value1,value2"),
    ("-m model.width=range(1,1000000000000)", "model.width=range(1,1000000000000)", "at most 100000 values"),
    ("-m recipe.epochs=range(1,999) model.width=range(1,999)", "996004 jobs", "at most 100000"),
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
    ("data=gaussian data.mean=-1e39", "data.mean=-1e+39: allowed is a number in [-1e+38, 1e+38]"),
    ("data=gaussian data.train_size=1000000000000", "data=gaussian: it takes", "bytes", "data.train_size=1000000"),
    ("data=gaussian data.classes=1000000000000", "data=gaussian: it takes", "bytes", "data.classes=1000000"),
    ("data=image_folder data.image_size=100000", "data.image_size=100000: allowed is a whole number from 1 to"),
    ("model.width=10000000", "model=mlp: cannot be built for data=digits", "bytes of memory, this machine has"),
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
        "job", "job.shards", "job.shard", "job.retry", "job.mix_versions",
        "output", "recipe.name", "recipe.scaled_down", "data.features", "data.train_size", "data.image_size",
        "logger.project", "hydra", "hydra/sweeper", "hydra/job_logging", "hydra.run.dir", "hydra.sweep.dir",
        "hydra.sweep.subdir", "hydra.output_subdir", "hydra.launcher._target_", "hydra.sweeper", "hydra.verbose",
        "hydra.sweeper.max_batch_size", "hydra.job.name", "hydra.job.chdir", "hydra.callbacks",
    ]  # fmt: skip
    values = [
        "", "null", "nan", "-inf", "1e400", "-1", "-0.5", "1.5e300", "1" + "0" * 60, "true", "some_name", "'a b'",
        "[]", "[[]]", "[[0.1]]", "[null]", "[nan,1]", "[-1]", "[2,2]", "[a,b]", "[1e400]",
        "{}", "{a:1}", "{1:2,a:b}", "{rate:[2],placement:[x]}", "{seed:[]}", "[", "}", "'", '"', "a=b", "\\",
        "${x}", "${oc.env:NOT_THERE}", "${", "1,2", "[1],[x]", "digits,", ",", "range(0)", "range(1,2,0)",
        "choice()", "interval(0,1)", "glob(?)", "sort(1)", "int(x)",
        "é\u202e\u0000\n", "None", "!!python/object:os.system", "*", "%",
        "'${'", "'a ${b'", "['${']", "'\\${'", "${study}", "${hydra.job.num}", "???", "'a\nb'", "'a$x_$b'", "~/x",
        "/dev/null/x", "/proc/x", "s3://b/k", "file:///x", "link", "link/x", "nope.X", "optuna", "cores",
        "{x:{_target_:nope.X}}", "40000", "1000000000000", "1e308", "range(1,10000000000)",
    ]  # fmt: skip
    key = draw.choice(keys)
    if draw.random() < 0.2:  # a slip of the finger
        place = draw.randrange(len(key))
        key = key[:place] + draw.choice(["", "x", ".", "@", " "]) + key[place + 1 :]
    return draw.choice(["", "", "", "", "+", "++", "~"]) + key + "=" + draw.choice(values)


@pytest.mark.long
def test_random_command_lines_are_planned_or_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    flags = ["-m", "--cfg job", "--cfg x", "--cfg", "--info", "-x", "--resolve", "--multirun=1", "-mc", "--"]
    draw = random.Random(0)
    lines: list[str] = []
    while len(lines) < 500:
        arguments = [random_override(draw) for _ in range(draw.choice([1, 1, 1, 2]))]
        if draw.random() < 0.1:
            arguments[draw.randrange(2) :] = draw.choice(flags).split()
        try:
            typed = read_flags(arguments)
            check_study(plan_jobs(typed.overrides, typed.multirun or draw.random() < 0.3))
        except ConfigError as error:
            lines.append(str(error))
        except Exception as error:
            raise AssertionError(arguments) from error
    assert all(line and line.isprintable() for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
