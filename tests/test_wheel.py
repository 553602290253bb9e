"""The wheel: `analysis` as `variance_shift`, importable beside packages that have the folders' names."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.analysis import synthetic
from tests.places import ROOT

NETWORK = """\
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16, 8, generator=generator) for _ in range(8)]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")

    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a clean environment: the wheel installed, its dependencies lent, the checkout not seen."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    # What a .pth file names is searched without its own .pth files, the editable install among them.
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


@pytest.fixture(params=["packages", "folders without __init__.py"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's project, whose packages have the names of our folders."""
    for name in ("analysis", "experiments", "scripts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(f"NAME = 'own {name}'\n")
        if request.param == "packages":
            (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "mynet.py").write_text(NETWORK)
    return tmp_path


def run(python: Path, project: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run([python, *arguments], cwd=project, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_wheel_holds_variance_shift_alone_and_is_small(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"variance_shift", "variance_shift-0.1.0.dist-info"}
    held = {name.removeprefix("variance_shift/") for name in names}
    assert {"audit/audit_page.html.j2", "templates/findings.md.j2", "paper/README.md"} <= held
    assert wheel.stat().st_size < 500e3


def test_the_audit_imports_beside_packages_of_the_same_names(installed, project):
    code = (
        "from variance_shift.audit import audit, diagnosis; import analysis.own, experiments.own, scripts.own; "
        "import mynet; audit(mynet.build(), mynet.batches()); "
        "print(analysis.own.NAME, experiments.own.NAME, scripts.own.NAME)"
    )
    assert run(installed, project, "-c", code) == "own analysis own experiments own scripts\n"


def test_the_audit_command_runs_from_the_users_folder(installed, project):
    arguments = ("target=mynet:build", "data=mynet:batches")
    assert "1 of 1" in run(installed, project, "-m", "variance_shift.audit", *arguments)


def test_a_study_is_reported_from_the_users_folder(installed, project, tmp_path_factory):
    folder = synthetic.write(tmp_path_factory.mktemp("outputs") / "a study", *synthetic.tables())
    run(installed, project, "-m", "variance_shift.claims", str(folder))
    assert "python -m variance_shift.report" in run(
        installed, project, "-m", "variance_shift.report", "--help"
    )


@pytest.mark.long
def test_the_installed_report_is_the_page_of_the_checkout(installed, tmp_path):
    folder = synthetic.write(tmp_path / "study", *synthetic.tables())
    run(installed, tmp_path, "-m", "variance_shift.report", str(folder))
    assert "variance shift" in (folder / "report" / "index.html").read_text()
