"""Settings of every test, and the command line as tests use it."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings

# Tests are small: a second thread would only wait for the first, and busily, at the cost of its neighbours.
torch.set_num_threads(1)
# Where tests run in the background of a shell, Ctrl-C is ignored, also by the commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# With which every table of a study begins, as users were promised.
IDENTITY = [
    *("data", "model", "width", "depth", "norm", "placement", "noise", "strength", "noise_variance", "seed"),
]
TINY = [
    "study=first_look",
    "recipe.epochs=1",
    "model.width=8",
    "members.seed=[0]",
    "processes=1",
    "output=out",
]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _no_debian_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests find the same data whether Debian's Fashion-MNIST is on this machine or not."""
    monkeypatch.setattr("experiments.data.fashion_mnist.DEBIAN_FOLDER", tmp_path / "no such package")


@pytest.fixture(autouse=True)
def _no_data_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the same data whether VARIANCE_SHIFT_DATA is set or not; see `tests.places.real_images`."""
    monkeypatch.delenv("VARIANCE_SHIFT_DATA", raising=False)


@pytest.fixture
def tiny() -> list[str]:
    """Overrides that make the default job one of five members and a second; its study is out/first_look."""
    return list(TINY)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`python -m experiments.run ARGUMENTS` in `tmp_path`, but within this process, which spares its imports."""
    from experiments.run import main

    return in_this_process(main, tmp_path, monkeypatch, capsys)


def in_this_process(
    main: Callable[[], int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ended]:
    """A command, given as its `main`, as a function of its arguments that runs it in `folder`."""
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE)
    }
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        capsys.readouterr()
        try:
            status = main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Ended(status, *capsys.readouterr())

    return call


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file and folder below `folder` by its relative path, with its content; folders have none."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


# The same examples on every machine and every day: a failure can be looked at again.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
