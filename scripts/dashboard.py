"""Build the project's workspace in W&B: `python -m scripts.dashboard [--project NAME] [--entity NAME]`.

Its sections are the report's questions, its panels draw what `logger=wandb` logs. Where nobody is logged in, or no
server answers, it prints the workspace's specification as JSON and saves nothing.
Needs the extra `dashboard`: pip install 'variance-shift[dashboard]'.
"""

import argparse
import sys
from typing import Any

from experiments.checks import ConfigError
from experiments.command import exit_status
from experiments.loggers.login import login_problem
from experiments.loggers.run_record import EPOCH, LAYER
from experiments.settings.logger import wandb_settings

NAME = "Variance shift"
MEAN = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def main(arguments: list[str] | None = None) -> int:
    """Save the workspace, or print it; return the exit status, 2 for bad input."""
    return exit_status(lambda: answer(arguments), "dashboard")


def answer(arguments: list[str] | None) -> int:
    """Do what the arguments ask for; return the exit status."""
    defaults = wandb_settings()
    parser = argparse.ArgumentParser(
        prog="python -m scripts.dashboard", description="Build the project's workspace in W&B."
    )
    parser.add_argument("--project", default=defaults.project, help="W&B's project (default: %(default)s)")
    parser.add_argument("--entity", help="user or team that owns the project (default: the account's own)")
    parser.add_argument("--study", help="show the runs of this study alone")
    parser.add_argument(
        "--update", metavar="URL", help="replace what this saved workspace shows, not a new one"
    )
    parser.add_argument("--print", action="store_true", help="print the specification, save nothing")
    options = parser.parse_args(arguments)
    wandb_settings(project=options.project, entity=options.entity)
    try:
        workspace_library()
    except ImportError as error:
        raise ConfigError("needs wandb-workspaces: pip install 'variance-shift[dashboard]'") from error
    problem = None if options.print else login_problem()
    if options.print or problem:
        if problem:
            print(f"dashboard: {problem.text}; nothing is saved, this is the specification", file=sys.stderr)
        print(specification(build_workspace(options.entity or "", options.project, options.study)))
        return 0
    try:
        print(f"workspace: {save(options)}")
    except Exception as error:  # whatever W&B, its server or the network raise
        print(f"dashboard: not saved ({' '.join(str(error).split())[:200]})", file=sys.stderr)
        return 1
    return 0


def workspace_library() -> tuple[Any, Any]:
    """Return wandb-workspaces' modules for workspaces and for panels. Raises ImportError without the extra."""
    from wandb_workspaces import workspaces  # type: ignore[import-not-found]
    from wandb_workspaces.reports import v2 as panels  # type: ignore[import-not-found]

    return workspaces, panels


def build_workspace(entity: str, project: str, study: str | None = None) -> Any:
    """Return the workspace: a section for each question, of all runs of the project or of one study."""
    workspaces, _ = workspace_library()
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"{NAME}: {study}" if study else NAME,
        sections=sections(),
        settings=workspaces.WorkspaceSettings(max_runs=1000),
        runset_settings=workspaces.RunsetSettings(
            filters=f"Config('study') = '{study}'" if study else "",
            pinned_columns=[
                "run:displayName",
                *(f"config:{key}.value" for key in ("placement", "noise", "strength")),
            ],
        ),
    )


def specification(workspace: Any) -> str:
    """Return a workspace as W&B stores it, JSON."""
    return workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=2)


def save(options: argparse.Namespace) -> str:
    """Save the workspace and return its address."""
    import wandb

    workspaces, _ = workspace_library()
    if options.update:
        workspace = workspaces.Workspace.from_url(options.update)
        workspace.sections = sections()
    else:
        entity = options.entity or wandb.Api().default_entity or ""
        workspace = build_workspace(entity, options.project, options.study)
    return workspace.save().url


def sections() -> list[Any]:
    """Return the report's questions, each with its panels."""
    workspaces, panels = workspace_library()
    placed = {
        "How large is the shift, and does theory say so?": [
            scatter("Shift ratio by strength", "strength", "shift_ratio/mean"),
            scatter("This layer's own noise by strength", "strength", "local_ratio/mean"),
            scatter("The same by the exact law", "strength", "local_ratio_exact/mean"),
            bars("Shift ratio by placement", "shift_ratio/mean"),
        ],
        "Does the kind of noise matter, or only its variance?": [
            scatter("Shift ratio by noise variance", "noise_variance", "shift_ratio/mean"),
            scatter("This layer's own noise by noise variance", "noise_variance", "local_ratio/mean"),
        ],
        "Which layers are off?": [
            over_layers("Shift ratio", "shift_ratio"),
            over_layers("max(ratio, 1/ratio)", "shift_magnitude"),
            over_layers("This layer's own noise", "local_ratio"),
            panels.WeavePanelSummaryTable(table_name="views/layers"),
        ],
        "How well does theory predict each layer?": [
            measured_by_law("First layer", "local_ratio/1"),
            measured_by_law("Second layer", "local_ratio/2"),
            measured_by_law("Mean over layers", "local_ratio/mean"),
        ],
        "Do wider networks shift less?": [
            scatter("Shift ratio by width", "width", "shift_ratio/mean", log_x=True),
            scatter("Shift ratio of the first layer by width", "width", "shift_ratio/1", log_x=True),
        ],
        "What does the noise cost, and does adjusting BN win it back?": [
            scatter("Test error by strength", "strength", "test_error"),
            scatter("Test error after BN adjustment by strength", "strength", "test_error_adjusted"),
            bars("Percentage points won by BN adjustment", "adjustment_gain"),
            over_layers("Shift ratio after BN adjustment", "shift_ratio_adjusted"),
        ],
        "How far apart are train() and eval()?": [
            scatter("Training error, eval() minus train(), by strength", "strength", "mode_gap"),
            bars("Training error, eval() minus train(), by placement", "mode_gap"),
        ],
        "How goes training that still runs?": [
            every_curve("Training loss", EPOCH, "loss"),
            every_curve("Shift ratio over BN layers", LAYER, "shift"),
        ],
        "How did training go?": [
            over_training("Training loss", "train_loss"),
            over_training("Learning rate", "learning_rate"),
        ],
        "The report's figures": [
            panels.MediaBrowser(title="Figures", media_keys=figure_keys(), num_columns=2)
        ],
    }
    return [workspaces.Section(name=name, panels=shown, is_open=True) for name, shown in placed.items()]


def every_curve(title: str, x: str, section: str) -> Any:
    """Return the lines of all curves in a section of the run that shows a study while it trains."""
    _, panels = workspace_library()
    return panels.LinePlot(title=title, x=x, metric_regex=f"^{section}/.*")


def over_layers(title: str, metric: str) -> Any:
    """Return a line a placement over the BN layers, with standard errors over its runs."""
    return _lines(title, LAYER, f"layer/{metric}", "BN layer, 1 is the shallowest", **MEAN)


def over_training(title: str, metric: str) -> Any:
    """Return the lines of training, over epochs."""
    return _lines(title, EPOCH, f"training/{metric}", "epoch")


def _lines(title: str, x: str, y: str, title_x: str, **averaging: str) -> Any:
    _, panels = workspace_library()
    return panels.LinePlot(
        title=title, x=x, y=[y], groupby=panels.Config("placement"), title_x=title_x, **averaging
    )


def bars(title: str, metric: str) -> Any:
    """Return a bar a placement of a run's result, with standard errors over its runs."""
    _, panels = workspace_library()
    return panels.BarPlot(
        title=title, metrics=[panels.SummaryMetric(metric)], groupby=panels.Config("placement"), **MEAN
    )


def scatter(title: str, config: str, summary: str, log_x: bool | None = None) -> Any:
    """Return one dot a run: a value that was set against one that came out."""
    _, panels = workspace_library()
    return panels.ScatterPlot(
        title=title, x=panels.Config(config), y=panels.SummaryMetric(summary), log_x=log_x, running_ymean=True
    )


def measured_by_law(title: str, summary: str) -> Any:
    """Return one dot a run: the measured local ratio against the exact law's; on the diagonal they agree."""
    _, panels = workspace_library()
    law = summary.replace("local_ratio", "local_ratio_exact")
    return panels.ScatterPlot(
        title=title, x=panels.SummaryMetric(law), y=panels.SummaryMetric(summary), regression=True
    )


def figure_keys() -> list[str]:
    """Return the keys under which the report's figures are logged, those of a study of one network."""
    from analysis.figures import CHARTS

    return [f"figures/{chart.name}" for chart in CHARTS]


if __name__ == "__main__":
    sys.exit(main())
