"""`run_study`: the command as a function, for a script and for a notebook."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from analysis.tables import Study, read_study
from experiments.checks import ConfigError
from experiments.run import run_study
from tests.conftest import files_below
from tests.experiments.command_line import of_its_own, results, wait_for
from tests.places import CONF, ROOT

KEYS = {
    "recipe": {"epochs": 1},
    "model": {"width": 8},
    "members": {"seed": [0]},
    "processes": 1,
    "output": Path("out"),
}
SCRIPT = """
import signal, sys
print("begins")
signal.signal(signal.SIGTERM, handler := lambda *_: None)
sys.argv[1:] = ["model.width=99"]
before = list(sys.argv)
from experiments.run import run_study
tiny = {"recipe": {"epochs": 1}, "model": {"width": 8}, "members": {"seed": [0, 1]}}
study = run_study(study="w", processes=2, chunk=2, **tiny)
assert sys.argv == before
assert signal.getsignal(signal.SIGTERM) is handler
print(len(study.members), set(study.members.status), len(study.layers))
"""
INTERRUPTED = """
import signal
from multiprocessing import get_context
from time import sleep
from experiments.run import run_study
def rest():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sleep(60)
own = get_context("fork").Process(target=rest, daemon=True)
own.start()
what = dict(study="w", recipe={"epochs": 300, "checkpoint_every": 3}, members={"seed": [0]}, processes=2, chunk=2)
try:
    run_study(model={"width": 4}, **what)
except KeyboardInterrupt:
    print("interrupted", own.is_alive(), flush=True)
study = run_study(model={"width": 4}, **what)
print(set(study.members.status), flush=True)
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def script(folder: Path, text: str, *arguments: str, **options) -> subprocess.Popen:
    """A script that has no guard around what it does."""
    (folder / "script.py").write_text(text)
    return of_its_own(folder, [sys.executable, *arguments], **options)


@pytest.mark.parametrize("arguments", [["script.py"], ["-"]], ids=["a file", "stdin"])
def test_a_script_needs_no_guard_and_keeps_its_arguments_and_handlers(tmp_path, arguments):
    with script(tmp_path, SCRIPT, *arguments, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(SCRIPT if arguments == ["-"] else None, timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines() == ["begins", "10 {'ok'} 30"]  # once: no worker ran the script again
    assert ": 10 members, " in err  # how far it is


def test_the_study_is_that_of_the_command(run):
    by_command = run("recipe.epochs=1", "model.width=8", "members.seed=[0]", "processes=1", "study=typed")
    assert by_command.status == 0
    study = run_study(study="called", **KEYS)
    assert isinstance(study, Study)
    assert isinstance(study.members, pd.DataFrame)
    assert results(Path("out/called")) == results(Path("outputs/typed"))
    pd.testing.assert_frame_equal(study.layers, read_study("out/called").layers)
    command = json.loads(Path("out/called/environment.json").read_text())["command"]
    assert command[1:4] == ["-m", "experiments.run", "-m"]
    assert "study=called" in command


def test_a_larger_call_lets_the_study_grow(capsys):
    run_study(study="w", **KEYS)
    study = run_study("model.width=8,4", study="w", **KEYS | {"model": {}})
    assert set(study.members.width) == {4, 8}
    assert "grow: 5 of 10 members are there; training 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["model.widht=8"], {}),
        (["+sweep=nope"], {}),
        (["--nope"], {}),
        ([], {"members": {"dropout": {"rate": [1.5]}}}),
        ([], {"recipe": {"batch_size": 2000}}),
    ],
)
def test_bad_input_raises_the_line_of_the_command_and_writes_nothing(run, tmp_path, arguments, keys):
    from experiments.settings.keywords import overrides_of

    with pytest.raises(ConfigError) as raised:
        run_study(*arguments, **keys)
    ended = run(*arguments, *overrides_of(keys))
    assert (ended.status, ended.err) == (2, f"error: {raised.value}\n")
    assert not files_below(tmp_path)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--help", "--help: a call from Python runs; leave it out"),
        ("--cfg=job", "--cfg: a call from Python runs; leave it out"),
        (["model.width=8"], "['model.width=8']: allowed are overrides, each a text, and keyword arguments"),
    ],
)
def test_what_is_no_override_is_answered_with_what_is_allowed(argument, line):
    with pytest.raises(ConfigError) as raised:
        run_study(argument)
    assert str(raised.value) == line


def test_members_that_failed_are_rows_and_a_warning_and_the_same_call_trains_them(monkeypatch):
    from experiments.jobs import chunk

    run_chunk = chunk.run_chunk

    def run_or_break(job, members, *arguments):
        if members[0].placement == "before_bn":
            raise RuntimeError("no more\n memory")
        return run_chunk(job, members, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(chunk, "run_chunk", run_or_break)
        with pytest.warns(
            UserWarning, match=r"^2 members of digits-.* failed: RuntimeError: no more memory$"
        ):
            study = run_study(study="w", **KEYS)
    assert study.members.status.value_counts().to_dict() == {"ok": 3, "failed": 2}
    assert len(study.layers) == 9
    assert set(run_study(study="w", **KEYS).members.status) == {"ok"}


def test_of_a_study_that_nobody_could_begin_there_is_an_exception(monkeypatch, tmp_path, capsys):
    def no_room(*_):
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr("experiments.jobs.launch.part_lock", no_room)
    with pytest.raises(RuntimeError, match=r"^study=w: no part of it was begun; stderr says why$"):
        run_study(study="w", **KEYS)
    assert "No space left on device" in capsys.readouterr().err
    assert not files_below(tmp_path)


@pytest.mark.long
def test_ctrl_c_is_a_keyboardinterrupt_and_the_same_call_goes_on(tmp_path):
    with script(tmp_path, INTERRUPTED, "script.py") as process:
        work = tmp_path / "outputs" / "w" / ".work"
        wait_for(lambda: [*work.glob("*/checkpoints/*.checkpoint")])
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, and a notebook
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines() == ["interrupted True", "{'ok'}"]  # the caller's own processes live on
    assert "Traceback" not in err


def test_a_thread_may_call_it_and_the_callers_own_hydra_stays(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text("mine: 1\n")
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    found = []
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        # Only a main thread may set handlers of signals.
        thread = threading.Thread(
            target=lambda: found.append(run_study(study="w", **KEYS | {"processes": 2, "chunk": 2}))
        )
        thread.start()
        thread.join()
        assert compose("own") == {"mine": 1}
    assert [len(study.members) for study in found] == [5]


def test_a_sweep_of_ones_own_is_called_as_those_of_conf_are(tmp_path):
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    text = (CONF / "sweep" / "width.yaml").read_text()
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(text.replace("study: width", "study: mine"))
    keys = KEYS | {"members": {"seed": [0], "dropout": None}}
    study = run_study("--config-dir", "conf", "model.width=4,8", sweep="mine", **keys | {"model": {}})
    assert study.name == "mine-epochs_1"
    assert set(study.members.width) == {4, 8}


CELLS = [
    "from experiments.run import run_study\n"
    "study = run_study(study='w', recipe={'epochs': 1}, model={'width': 8}, processes=2, chunk=2)",
    "study",
    "run_study('model.widht=8')",
]


@pytest.mark.long
def test_a_cell_of_a_notebook_shows_how_far_it_is_and_what_came_out(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    kernel = (
        tmp_path / "jupyter" / "kernels" / "python3"
    )  # of this environment, wherever others are installed
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "p", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=120, allow_errors=True, resources=where).execute()
    trained, shown, refused = (cell.outputs for cell in book.cells)
    said = "".join(output.text for output in trained)
    assert {output.name for output in trained} == {"stderr"}
    assert "100 %" in said
    assert "\r" in said  # a line that is drawn anew
    (table,) = shown
    assert "<b>w</b>: 10 members (10 ok)" in table.data["text/html"]
    (error,) = refused
    assert (error.ename, error.evalue) == (
        "ConfigError",
        "model.widht=8: no such key; did you mean model.width?",
    )
