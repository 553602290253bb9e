"""Hydra's launchers, the real ones: joblib, and a Slurm and a Ray cluster of two nodes on this machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.checks import ConfigError
from experiments.settings import launchers
from experiments.settings.device import choose_processes
from experiments.settings.launchers import check_launcher, cores_of_job, is_parallel, launcher_overrides
from experiments.settings.plan import plan_jobs
from tests.experiments.command_line import results, started, wait_for
from tests.places import ROOT

SWEEP = [
    "+sweep=variance_shift", "recipe.epochs=1", "model.width=4,8", "members.seed=[0,1]",
    "members.dropout.rate=[0.5]", "members.uout=null", "members.gaussian=null",
]  # fmt: skip
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"


def installed(name: str) -> bool:
    try:
        check_launcher(name)
    except ConfigError:
        return False
    return True


def needs(name: str) -> pytest.MarkDecorator:
    extra = launchers.PACKAGES[name][1]
    return pytest.mark.skipif(not installed(name), reason=f"the extra [{extra}] is not installed")


@pytest.mark.parametrize(
    ("launcher", "cores", "expected"),
    [
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 8, 8),
        ({"_target_": JOBLIB, "n_jobs": -1}, 8, 1),
        ({"_target_": JOBLIB, "n_jobs": -3}, 8, 1),
        ({"_target_": JOBLIB, "n_jobs": 3}, 8, 2),
        ({"_target_": JOBLIB, "n_jobs": 100}, 8, 1),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": 4}, 8, 4),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": None}, 8, 1),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": 4}, 2, 2),
        ({"_target_": "x.RayLauncher", "ray": {"remote": {"num_cpus": 2}}}, 8, 2),
        ({"_target_": "x.RayLauncher", "ray": {"remote": {}}}, 8, 1),
    ],
)
def test_a_job_keeps_its_share_of_the_cores_busy(launcher, cores, expected, monkeypatch):
    monkeypatch.setattr(launchers, "available_cores", lambda: cores)
    assert cores_of_job(launcher) == expected
    assert choose_processes("auto", "cpu", cores_of_job(launcher)) == expected
    assert choose_processes(3, "cpu", cores_of_job(launcher)) == 3
    assert is_parallel(launcher) == ("Basic" not in launcher["_target_"])


def test_few_jobs_share_all_cores_under_joblib(monkeypatch):
    monkeypatch.setattr(launchers, "available_cores", lambda: 16)
    assert launcher_overrides({"_target_": JOBLIB, "n_jobs": -1}, jobs=3) == ["hydra.launcher.n_jobs=3"]
    assert launcher_overrides({"_target_": JOBLIB, "n_jobs": 2}, jobs=3) == ["hydra.launcher.n_jobs=2"]
    assert launcher_overrides({"_target_": "x.SlurmLauncher"}, jobs=3) == []


@pytest.mark.parametrize(("name", "extra"), [("cores", "joblib"), ("slurm", "slurm"), ("ray_cluster", "ray")])
def test_a_launcher_that_is_not_installed_is_one_line_with_the_mend(name, extra, monkeypatch):
    monkeypatch.setattr(launchers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError) as raised:
        plan_jobs([f"hydra/launcher={name}"], multirun=False)
    assert str(raised.value) == (
        f"hydra/launcher={name}: its package is not installed; pip install --editable '.[{extra}]' does that"
    )


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in launchers.PACKAGES])
def test_every_launcher_composes_and_runs_jobs_in_processes_of_their_own(name):
    plan = plan_jobs([f"hydra/launcher={name}"], multirun=False)
    assert (plan.parallel, len(plan.jobs)) == (True, 1)


@pytest.fixture
def slurm(tmp_path) -> Iterator[list[str]]:
    """The arguments for a Slurm of this test's own, which the environment leads to."""
    sandbox = [str(ROOT / "scripts" / "slurm-sandbox")]
    folder = tmp_path / "slurm"
    begun = subprocess.run([*sandbox, "start", str(folder)], capture_output=True, text=True, check=False)
    if begun.returncode:
        pytest.skip(f"no Slurm here: {begun.stderr.strip().splitlines()[-1]}")
    before = os.environ.copy()
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    try:
        yield ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"]
    finally:
        os.environ |= before
        subprocess.run([*sandbox, "stop", str(folder)], capture_output=True, check=False)


@pytest.fixture
def ray_cluster() -> Iterator[list[str]]:
    """The arguments for a Ray cluster of this test's own."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as cluster:
        assert cluster.stdout
        address = cluster.stdout.readline().strip()
        yield [
            "hydra/launcher=ray_cluster",
            f"hydra.launcher.ray.init.address={address}",
            "hydra.launcher.ray.remote.num_cpus=1",
        ]
        assert cluster.stdin
        cluster.stdin.close()


@pytest.fixture
def joblib() -> list[str]:
    return ["hydra/launcher=cores", "hydra.launcher.n_jobs=2"]


@pytest.mark.long
@pytest.mark.xdist_group("launchers")
@needs("slurm")
def test_slurm_keeps_jobs_that_their_command_has_left_and_the_same_command_waits(slurm, tmp_path):
    study = tmp_path / "outputs" / "left"
    arguments = [*SWEEP, *slurm, "study=left"]
    slow = "recipe.epochs=200"
    with started(tmp_path, *arguments, slow, "--detach") as process:
        out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, "")
    told = re.match(r"with Slurm: 2 of 2 jobs \((\d+)_0, \1_1\)\n", out)
    assert told
    assert not (study / "members.csv").exists()

    # Of two jobs one is lost: that is handed over once more, the other one is waited for.
    wait_for(lambda: "RUNNING" in squeue(), 60)
    subprocess.run(["scancel", f"{told[1]}_1"], check=True)
    wait_for(lambda: f"{told[1]}_1|CANCELLED" in squeue(), 60)
    with started(tmp_path, *arguments, slow) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "16 members ok" in out
    assert sorted(line.split(",")[0] for line in err.splitlines()) == [
        "[1/2] width 4: 8 members",
        "[2/2] width 8: 8 members",
    ]
    first, lost, again = sorted(squeue().splitlines())
    assert [first.split("|")[0], lost.split("|")[0]] == [f"{told[1]}_0", f"{told[1]}_1"]
    assert "_" not in again


def squeue() -> str:
    return subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=cores"]])
def test_only_slurm_keeps_jobs_without_their_command(launcher, run, tmp_path):
    if launcher and not installed("cores"):
        pytest.skip("the extra [joblib] is not installed")
    refused = run("--detach", *launcher)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err == (
        "error: --detach: only jobs of hydra/launcher=slurm outlive their command; leave it out\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.xdist_group("launchers")  # not all clusters at once
@pytest.mark.parametrize(
    "launcher",
    [pytest.param(name, marks=needs(name)) for name in ("joblib", "slurm", "ray_cluster")],
)
def test_a_launcher_makes_the_same_tables_to_the_bit(launcher, run, tmp_path, request):
    arguments = request.getfixturevalue(launcher)
    assert run(*SWEEP, "processes=1", "study=plain").status == 0
    expected = results(tmp_path / "outputs" / "plain")
    with started(tmp_path, *SWEEP, *arguments, "job.shards=2", "study=launched") as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "16 members ok" in out
    study = tmp_path / "outputs" / "launched"
    assert results(study) == expected
    assert len(list(study.glob("jobs/*/done.json"))) == 4

    # The same command goes on: a part that is lost is made up for, the others stay.
    lost = sorted((study / "jobs").iterdir())[1]
    kept = {path: path.stat().st_mtime_ns for path in study.glob("jobs/*/done.json") if path.parent != lost}
    shutil.rmtree(lost)
    with started(tmp_path, *SWEEP, *arguments, "job.shards=2", "study=launched") as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "grow: 12 of 16 members are there; training 4" in err
    assert results(study) == expected
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items())
