"""scripts.dashboard: every panel draws something that `logger=wandb` logs, and the workspace can be saved."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from experiments.loggers.member_records import member_records
from tests.experiments.loggers.wandb_runs import nobody_is_logged_in  # noqa: F401
from tests.experiments.loggers.wandb_server import KEY, serving
from tests.places import ROOT

pytestmark = pytest.mark.usefixtures("nobody_is_logged_in")
has_the_library = pytest.mark.skipif(
    find_spec("wandb_workspaces") is None, reason="the extra `dashboard` is not installed"
)


def dashboard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.dashboard", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@has_the_library
def test_every_panel_draws_what_a_run_holds(run, tmp_path, tiny):
    from analysis.figures import CHARTS

    assert run(*tiny, "members.dropout.rate=[0.5]").status == 0
    (job,) = tmp_path.glob("out/first_look/jobs/*")
    record = member_records(job)[-1]  # with noise before weight layers, the second on
    logged = {key for row in record.history for key in row}
    text = dashboard("--print", "--study", "first_look").stdout
    panels = [
        panel
        for section in json.loads(text)["section"]["panelBankConfig"]["sections"]
        for panel in section["panels"]
    ]
    assert len(panels) >= 20
    configs = set(re.findall(r'"config:([^".]+)\.value"', text))
    assert {"strength", "noise_variance", "width"} <= configs <= set(record.config)
    summaries = set(re.findall(r'"summary:([^"]+)"', text))
    first_layer_has_no_own_noise = {"local_ratio/1", "local_ratio_exact/1"}
    assert {"test_error", "mode_gap"} <= summaries
    assert summaries - first_layer_has_no_own_noise <= {*record.summary, *logged}
    lines = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {line["xAxis"] for line in lines} == {"x/epoch", "x/layer"}
    assert {metric for line in lines for metric in line["metrics"]} <= logged
    (figures,) = [panel["config"]["mediaKeys"] for panel in panels if panel["viewType"] == "Media Browser"]
    assert figures == [f"figures/{chart.name}" for chart in CHARTS]


@has_the_library
@pytest.mark.long
def test_it_is_saved_on_a_server_and_printed_without_one(monkeypatch):
    printed = dashboard()
    assert printed.returncode == 0
    assert printed.stderr == (
        "dashboard: not logged in to W&B; run wandb login; nothing is saved, this is the specification\n"
    )
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        saved = dashboard("--project", "shift")
        assert saved.returncode == 0, saved.stderr
        (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("tester", "shift")
    names = [
        [section["name"] for section in json.loads(text)["section"]["panelBankConfig"]["sections"]]
        for text in (view["spec"], printed.stdout)
    ]
    assert names[0] == names[1]
    assert saved.stdout.startswith(f"workspace: {server.url}/tester/shift?nw=")


def test_without_its_library_it_says_what_to_install(capsys, monkeypatch):
    from scripts.dashboard import main

    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "dashboard: needs wandb-workspaces: pip install 'variance-shift[dashboard]'\n"
    )
