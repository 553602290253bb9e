"""Files of the user's own, outside the checkout, beside those of conf."""

import re

import pytest
from hydra.core.global_hydra import GlobalHydra

from experiments.checks import ConfigError
from experiments.settings.options import groups, quoted
from experiments.settings.search_path import conf_in_use
from tests.experiments.command_line import plan, tables

SWEEP = """# @package _global_
# Two widths of mine
study: mine
recipe: {epochs: 1}
members: {seed: [0], dropout: null}
hydra: {mode: MULTIRUN, sweeper: {params: {model.width: "4,8"}}}
"""
DATA = """name: gaussian
features: 16  # of my own
classes: 3
mean: 0.0
variance: 1.0
correlation: 0.0
train_size: 256
test_size: 64
seed: 0
validation: 0
"""


@pytest.fixture
def own(tmp_path):
    """A folder with a sweep and, without a word about it, a data set."""
    folder = tmp_path / "my conf, it's"
    for group, name, text in (("sweep", "mine", SWEEP), ("data", "noisy", DATA)):
        (folder / group).mkdir(parents=True)
        (folder / group / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package `confs_of_mine.more`, with a sweep `packaged`."""
    folder = tmp_path / "confs_of_mine" / "more"
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "packaged.yaml").write_text(SWEEP)
    for place in (folder, folder.parent):
        (place / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return "pkg://confs_of_mine.more"


def test_a_sweep_of_ones_own_runs(run, tmp_path, own):
    ended = run("--config-dir", own.name, "+sweep=mine", "data=noisy", "processes=1", "study=mine")
    assert ended.status == 0, ended.err
    members, _ = tables(tmp_path / "outputs" / "mine")
    assert set(zip(members.data, members.width, strict=True)) == {("gaussian", 4), ("gaussian", 8)}
    again = run("-cd", str(own), "+sweep=mine", "data=noisy", "processes=1", "study=mine")
    assert again.err == "grow: all 2 members are there in outputs/mine\n"


def test_a_launcher_finds_it_too(run, tmp_path, own):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    ended = run("-cd", own.name, "+sweep=mine", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert ended.status == 0, ended.err
    assert len(tables(tmp_path / "outputs" / "mine")[0]) == 2


def test_folders_and_packages_add_up_wherever_they_are_named(own, package, monkeypatch):
    monkeypatch.chdir(own.parent)
    search_path = rf"hydra.searchpath=['my conf, it\'s',{package}]"
    for arguments in (
        [search_path],
        [search_path, search_path],
        [search_path, f"hydra.searchpath=[{package}]"],
    ):
        with conf_in_use(arguments):
            assert {"mine", "packaged", "width"} <= set(groups()["sweep"])
    planned = plan(search_path, "+sweep=packaged", "data=noisy")
    assert [job.model.width for job in planned.jobs] == [4, 8]
    # Jobs may run in another folder.
    assert any(str(own.parent / "my conf") in line for line in planned.launcher)


def test_help_lists_what_is_there_with_the_keys_it_has(run, own):
    ended = run("--help", "--config-dir", own.name)
    assert ended.status == 0
    assert re.search(r"\bmine\b", ended.out)
    assert re.search(r"\bnoisy\b", ended.out)
    sweeps, noisy = (run("--help", topic, "--config-dir", own.name).out for topic in ("sweep", "data=noisy"))
    assert re.search(r"\n  mine +Two widths of mine\n", sweeps)
    assert re.search(r"data\.features=16 +of my own\n", noisy)


def test_a_misspelt_choice_is_answered_with_ones_own_among_the_others(own):
    for typed, wanted in (("+sweep=mien", "mine, normalisers"), ("data=nois", "image_folder, noisy")):
        with pytest.raises(ConfigError, match=f"allowed is one of .*{wanted}"):
            plan(f"hydra.searchpath=[{quoted(str(own))}]", typed)
    with pytest.raises(ConfigError, match=r"^sweep=mine: allowed is one of"):
        plan("+sweep=mine")  # of another command


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("hydra.searchpath=[nope]", "hydra.searchpath=nope: no such folder; allowed is a list of folders"),
        ("hydra.searchpath=[file:///nope]", "hydra.searchpath=file:///nope: no such folder"),
        ("hydra.searchpath=[pkg://no.pe]", "hydra.searchpath=pkg://no.pe: no such package"),
        ("hydra.searchpath=[pkg://json.decoder]", "hydra.searchpath=pkg://json.decoder: no such package"),
        ("hydra.searchpath=x", "hydra.searchpath=x: allowed is a list of folders and packages, written"),
        ("hydra.searchpath=[1]", "hydra.searchpath=[1]: allowed is a list of folders"),
        ("hydra.searchpath=[", "hydra.searchpath=[: allowed is a list of folders"),
    ],
)
def test_what_is_no_folder_is_answered_in_a_line(typed, line):
    with pytest.raises(ConfigError) as raised:
        plan(typed)
    assert str(raised.value).startswith(line)


def test_a_file_of_a_name_that_conf_has_is_never_left_out_in_silence(own):
    (own / "sweep" / "width.yaml").write_text(SWEEP)
    with (
        pytest.raises(
            ConfigError, match=r"sweep/width.yaml has the name of .*conf/sweep/width.yaml, which comes"
        ),
        conf_in_use([f"hydra.searchpath=[{quoted(str(own))}]"]),
    ):
        pass


def test_a_file_that_is_no_yaml_is_named(run, own):
    (own / "data" / "torn.yaml").write_text("name: [")
    ended = run("-cd", own.name, "modle.width=8")
    assert ended.status == 2
    assert "torn.yaml: not readable as YAML" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_hydra_is_left_as_it_was(own):
    before = GlobalHydra.instance().hydra
    with conf_in_use([]):
        assert GlobalHydra.instance().hydra is not before
    assert GlobalHydra.instance().hydra is before
