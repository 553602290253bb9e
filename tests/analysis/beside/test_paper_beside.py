"""The paper's figures and tables with ours beside them, against a few lines of pandas and the published files."""

import base64
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import paper
from analysis.beside.comparison import beside_tables
from analysis.beside.measured import depth_contrast, placement_contrast
from analysis.beside.setting import NETWORKS, PaperStudy, paper_study, setting_rows
from analysis.beside.shape import layer_shapes
from analysis.figures import paper_charts, paper_cos2, paper_flips, paper_modes, paper_shift
from analysis.paper.findings import statements
from analysis.report import main, write_report
from analysis.select import CannotAnswerError
from analysis.stats import mean_interval
from analysis.tables import Study, read_study
from tests.analysis import synthetic
from tests.experiments.data.image_files import write_cifar

SETTING = """
data: {name: cifar10, train_size: 5000, image_size: 16}
model: {name: preresnet, width: 8, depth: 4, norm: batch, block: bottleneck}
recipe:
  {epochs: 10, batch_size: 128, lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0001, augment: none,
    schedule: one_cycle}
"""


PART = "job-preresnet-0123abcd"


def tables_of(model: str, depth: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    members, layers = synthetic.tables(widths=(8,), seeds=range(3), data="cifar10", model=model, depth=depth)
    return members.assign(job=f"job-{model}", train_samples=5000), layers.assign(
        job=f"job-{model}", train_samples=5000
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two of the paper's networks; one's job is there with its configuration."""
    parts = [tables_of("wide_resnet"), tables_of("preresnet", depth=5)]
    members, layers = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    layers["cos2"] = np.where(
        layers["noise"] == "none", 0.02 + 0.001 * layers["seed"] * layers["layer_index"], None
    )
    layers["d_cos2"] = layers["cos2"] * 9
    layers["fan_in"] = 9
    path = synthetic.write(tmp_path_factory.mktemp("outputs") / "small", members, layers)
    (path / "jobs" / PART).mkdir(parents=True)
    (path / "jobs" / PART / "config.yaml").write_text(SETTING)
    return path


@pytest.fixture(scope="module")
def study(folder):
    return paper_study(read_study(folder), folder)


def panel(figure, title: str):
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


@pytest.fixture(scope="module")
def tables(study):
    return beside_tables(study)


def rows_of(tables, title: str) -> pd.DataFrame:
    (table,) = [table for table in tables if table.question.startswith(title)]
    return pd.DataFrame(table.rows)


# --- the setting


def test_the_setting_is_read_from_the_job_and_compared_with_the_paper(study):
    assert list(study.setting) == [("CIFAR10", "PreResNet-110"), ("CIFAR10", "WRN-28-10")]
    differences = study.setting["CIFAR10", "PreResNet-110"]
    assert differences == {
        "bn_layers": (5, 163), "model.width": (8, 16), "model.depth": (4, 18), "data.train_size": (5000, 50_000),
        "data.image_size": (16, 32), "recipe.epochs": (10, 164), "recipe.augment": ("none", "crop_flip"),
        "recipe.schedule": ("one_cycle", "step"),
    }  # fmt: skip
    assert set(study.setting["CIFAR10", "WRN-28-10"]) == {"bn_layers", "model.width", "data.train_size"}
    assert ["augmentation", "none (crop_flip)", "as in the paper"] in setting_rows(study.setting)
    assert "4-5 of 25-163 BN layers, 5,000 of 50,000 images, 16 of 32 pixels, 10 of 164 epochs" in study.scale


def test_the_setting_of_a_study_that_was_trained_is_found(run, tmp_path):
    """What the harness names its folders, and not what this file says that it does."""
    write_cifar(tmp_path / "images" / "cifar-10-batches-bin", "cifar10")
    small = [
        "+sweep=full_depth",
        "model=preresnet",
        "model.width=4",
        "model.depth=1",
        "study=s",
        "output=out",
    ]
    small += ["recipe.epochs=4", "recipe.drops=[2,3]", "recipe.schedule_scale=1", "recipe.batch_size=16"]
    small += ["data.root=images", "data.image_size=8", "members.seed=[0]", "members.dropout.rate=[0.5]"]
    assert run("-m", *small).status == 0
    folder = tmp_path / "out" / "s"
    (differences,) = paper_study(read_study(folder), folder).setting.values()
    assert differences["recipe.epochs"] == (4, 164)
    assert differences["recipe.batch_size"] == (16, 128)
    assert differences["data.image_size"] == (8, 32)


def test_the_paper_s_own_setting_differs_in_nothing(tmp_path):
    members, layers = tables_of("preresnet", depth=163)
    members, layers = (table.assign(width=16, depth=18) for table in (members, layers))
    path = synthetic.write(
        tmp_path / "large", members.assign(train_samples=50_000), layers.assign(train_samples=50_000)
    )
    (path / "jobs" / "job-preresnet").mkdir(parents=True)
    at_paper_scale = (
        SETTING.replace("augment: none", "augment: crop_flip")
        .replace("one_cycle", "step")
        .replace("epochs: 10", "epochs: 164")
    )
    for small, large in {
        "train_size: 5000": "train_size: null",
        "image_size: 16": "image_size: null",
    }.items():
        at_paper_scale = at_paper_scale.replace(small, large)
    config = at_paper_scale.replace("width: 8, depth: 4", "width: 16, depth: 18")
    (path / "jobs" / "job-preresnet" / "config.yaml").write_text(config)
    large = paper_study(read_study(path), path)
    assert large.setting == {("CIFAR10", "PreResNet-110"): {}}
    assert large.scale == "ours at the paper's scale"


@pytest.mark.parametrize("content", [b"", b"a: [", b"- 1", b"data: 3", b"\xff\0", b"[" * 500], ids=repr)
def test_a_configuration_that_cannot_be_read_is_one_line_before_anything_is_written(
    folder, tmp_path, content, capsys
):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "jobs" / PART / "config.yaml").write_bytes(content)
    assert main([str(broken)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"report: {broken / 'jobs' / PART / 'config.yaml'}: ")
    assert line.endswith("; remove the job's folder and run the study's command again")
    assert not (broken / "report").exists()


# --- figures


def test_figure_4_draws_our_means_over_every_published_layer(study):
    drawing = paper_shift.draw_figure4(study)
    axes = panel(drawing.figure, "PreResNet-110\nCIFAR10, before_bn")
    ours = [line for line in axes.get_lines() if line.get_marker() == "o"]
    layers = study.layers.query("network == 'PreResNet-110' and placement == 'before_bn' and strength == 0.7")
    magnitude = layers["shift_ratio"].combine(1 / layers["shift_ratio"], max)
    expected = magnitude.groupby(layers["layer_index"]).mean()
    assert len(ours) == 5
    assert ours[-1].get_xdata() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert ours[-1].get_ydata() == pytest.approx(expected.to_numpy())
    published = paper.figure4().query(
        "dataset == 'CIFAR10' and network == 'PreResNet-110' and placement == 'before_bn' and drop_ratio == 0.7"
    )
    curves = [line for line in axes.get_lines() if np.size(line.get_xdata()) == 163]
    assert len(curves) == 5
    assert curves[-1].get_ydata() == pytest.approx(published["shift_magnitude"].to_numpy())
    triangles = [line for line in axes.get_lines() if line.get_marker() == "^" and np.size(line.get_xdata())]
    clipped = (published["read_from"] == "clipped_at_top").sum()
    assert sum(np.size(line.get_xdata()) for line in triangles) == clipped > 0
    assert study.scale in drawing.reading


def test_figure_3_draws_cos2_of_networks_without_noise(study):
    axes = panel(paper_cos2.draw(study).figure, "WRN-28-10\nCIFAR10")
    (ours,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert ours.get_ydata() == pytest.approx([0.021, 0.022, 0.023, 0.024])
    (theirs,) = [line for line in axes.get_lines() if np.size(line.get_xdata()) > 20]
    assert np.size(theirs.get_ydata()) == 28


def test_figures_5_and_6_need_what_must_be_asked_for(study):
    for draw, needed in [(paper_modes.draw, "recipe.track_modes"), (paper_flips.draw, "measure.flips")]:
        with pytest.raises(CannotAnswerError, match=needed):
            draw(study)


def test_figure_5_draws_accuracies_in_both_modes(study):
    rows = [
        {"dataset": "CIFAR10", "network": "PreResNet-110", "placement": placement, "noise": noise}
        | {"strength": rate, "seed": seed, "epoch": epoch}
        | {"train_error_train_mode": 50 - 10 * epoch + seed, "train_error_eval_mode": 50 + seed - 5 * epoch}
        for placement, noise, rate in [("none", "none", 0.0), ("before_bn", "dropout", 0.5)]
        for seed in range(3)
        for epoch in (1, 2)
    ]
    followed = type(study)(study.members, study.layers, pd.DataFrame(rows), study.flips, study.setting)
    drawing = paper_modes.draw(followed)
    bold = [
        line
        for line in panel(drawing.figure, "PreResNet-110, CIFAR10").get_lines()
        if line.get_linewidth() > 2
    ]
    assert [np.asarray(line.get_ydata()).tolist() for line in bold] == [[59, 69], [54, 59]] * 2
    assert (
        "PreResNet-110 on CIFAR10, drop rate 0.5: 10.000 [10.000, 10.000], the paper's 0.28"
        in drawing.finding
    )


def test_figure_6_draws_the_kept_images_and_their_logits(study):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    row = {"dataset": "CIFAR10", "network": "WRN-28-10", "placement": "before_bn", "noise": "dropout"}
    row |= {
        "strength": 0.5,
        "seed": 0,
        "lost": 4.0,
        "won": 1.5,
        "sample": 3,
        "label": 6,
        "eval_mode_class": 3,
    }
    row |= {"logits_train_mode": "0 0 0 1 0 0 5 0 0 0", "logits_eval_mode": "0 0 0 5 0 0 1 0 0 0"}
    row |= {"image": base64.b64encode(buffer.getvalue()).decode()}
    flipped = type(study)(study.members, study.layers, study.epochs, pd.DataFrame([row]), study.setting)
    drawing = paper_flips.draw(flipped)
    axes = panel(drawing.figure, "frog")
    assert np.array_equal((np.asarray(axes.get_images()[0].get_array()) * 255).round(), pixels)
    assert "eval: cat" in [text.get_text() for text in axes.texts]
    assert "before_bn 0.5: 4.0 % lost, 1.5 % won" in drawing.finding


# --- tables


def test_figure_4_s_table_gives_means_changes_and_lower_bounds(study, tables):
    rows = rows_of(tables, "Figure 4")
    assert len(rows) == 2 * 2 * 4
    row = rows[(rows[1] == "PreResNet-110") & (rows[2] == "before_bn") & (rows[3] == "0.7")].iloc[0]
    layers = study.layers.query("network == 'PreResNet-110' and placement == 'before_bn' and strength == 0.7")
    magnitude = layers["shift_ratio"].combine(1 / layers["shift_ratio"], max)
    mean, _, high, _ = mean_interval(magnitude.groupby(layers["seed"]).mean())
    assert row[4] == "at least 1.823"
    assert row[5] == f"{mean:.3f} ± {high - mean:.3f}"
    theirs = paper.figure4_mean_magnitude().set_index(["dataset", "network", "placement", "drop_ratio"])
    published = theirs["mean_magnitude"]["CIFAR10", "PreResNet-110", "before_bn", 0.7]
    assert row[6].startswith(f"at most {mean - published:+.3f} ± ")
    assert row[7] == "+9.60"


def test_table_3_sets_gains_and_shares_of_the_loss_side_by_side(study, tables):
    rows = rows_of(tables, "Table 3")
    row = rows[(rows[1] == "WRN-28-10") & (rows[2] == "before_bn")].iloc[0]
    members = study.members.query("network == 'WRN-28-10'").set_index("seed")
    at = members.query("placement == 'before_bn' and noise == 'dropout' and strength == 0.5")
    gain = at["test_error"] - at["test_error_adjusted"]
    loss = at["test_error"] - members.query("noise == 'none'")["test_error"]
    assert row[3] == "4.59 → 4.20"
    assert row[5] == "+0.39"
    assert row[6].startswith(f"{gain.mean():+.1f} ± ")
    assert row[8] == "63%"
    assert row[9] == f"{gain.mean() / loss.mean():.0%}"
    both = study.members.query("placement == 'before_bn' and noise == 'dropout' and strength == 0.5")
    pooled = (both["test_error"] - both["test_error_adjusted"]).groupby(both["seed"]).mean()
    (table,) = [table for table in tables if table.name == "paper-table3"]
    half = 4.303 * pooled.std() / 3**0.5  # Student's t of three seeds
    assert f"in points: before_bn {pooled.mean():+.2f} ± {half:.2f};" in table.finding


def test_tables_4_and_6_pair_changes_by_seed(study, tables):
    for title, placement, noise in [
        ("Table 4", "after_last_bn", "dropout"),
        ("Table 6", "before_weight", "uout"),
    ]:
        rows = rows_of(tables, title)
        row = rows[(rows[1] == "PreResNet-110") & (rows[2] == "0.5")].iloc[0]
        members = study.members.query("network == 'PreResNet-110'").set_index("seed")
        chosen = (members["placement"] == placement) & (members["noise"] == noise)
        with_noise = members[chosen & (members["strength"] == 0.5)]["test_error"]
        change = with_noise - members.query("noise == 'none'")["test_error"]
        assert row[6].startswith(f"{change.mean():+.2f} ± ")
        error = paper.error_rates().query("dataset == 'CIFAR10' and network == 'PreResNet-110'")
        error = error[error["table"] == title]
        theirs = (
            error.query("strength == 0.5")["error"].iloc[0]
            - error.query("placement == 'none'")["error"].iloc[0]
        )
        assert row[5] == f"{theirs:+.2f}"


def test_contrasts_answer_what_was_put_in(study):
    placements = placement_contrast(study)
    assert placements["network"].tolist() == ["PreResNet-110", "WRN-28-10"]
    layers = study.layers.query("network == 'WRN-28-10' and noise == 'dropout' and strength == 0.5")
    magnitude = layers["shift_ratio"].combine(1 / layers["shift_ratio"], max)
    means = magnitude.groupby([layers["placement"], layers["seed"]]).mean()
    expected = (means["before_bn"] - means["before_weight"]).mean()
    assert placements["ours"][1].mean == pytest.approx(expected)
    depths = depth_contrast(study).query("network == 'WRN-28-10' and placement == 'before_weight'")
    here = layers[layers["placement"] == "before_weight"]
    halves = magnitude[here.index].groupby(here["layer_index"] > 2).mean()
    assert depths["ours"].iloc[0].mean == pytest.approx(halves[True] - halves[False])


def as_deep_as_the_papers(
    curve: Callable[[int, np.ndarray], np.ndarray], model: str, layers: int
) -> PaperStudy:
    """Three seeds of one of the paper's networks, all BN layers of which have `curve(seed, the paper's)`."""
    members, table = tables_of(model, depth=layers)
    table = table[(table["placement"] == "before_bn") & (table["strength"] == 0.5)]
    table = table[table["noise"] == "dropout"].sort_values(["seed", "layer_index"])
    blocks = [f"blocks.{index // 3}.norm{index % 3 + 1}" for index in range(layers - 1)]
    curves = [curve(seed, published("CIFAR10").to_numpy()) for seed in range(3)]
    table = table.assign(layer_name=3 * [*blocks, "norm"], shift_ratio=1 / np.concatenate(curves))
    has_noise = table["layer_index"] % 3 == 0
    law = (table["shift_ratio"] ** 0.5).where(has_noise)
    return paper_study(Study("deep", members, table.assign(local_ratio_exact=law)), Path("nowhere"))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    return pd.Series(first).corr(pd.Series(second), method="spearman")


def published(data: str) -> pd.Series:
    curves = paper.figure4().query(
        "network == 'PreResNet-110' and placement == 'before_bn' and drop_ratio == 0.5"
    )
    return curves[curves["dataset"] == data].sort_values("bn_layer_index")["shift_magnitude"]


def test_shapes_of_networks_as_deep_as_the_papers_are_compared_layer_by_layer():
    noisy = np.random.default_rng(3).normal(0, 0.2, (3, 163))
    study = as_deep_as_the_papers(
        lambda seed, curve: curve**2 * np.exp(np.abs(noisy[seed])), "preresnet", 163
    )
    (shape,) = layer_shapes(study)
    theirs = published("CIFAR10").to_numpy()
    ours = [theirs**2 * np.exp(np.abs(noise)) for noise in noisy]
    assert shape.bn_layers == 163
    assert shape.ours("like").mean == pytest.approx(np.mean([spearman(curve, theirs) for curve in ours]))
    assert shape.published.like == pytest.approx(spearman(theirs, published("CIFAR100").to_numpy()))
    assert shape.ours("magnitude").mean == pytest.approx(np.mean(ours))
    laws = [np.where(np.arange(1, 164) % 3 == 0, curve**0.5, 1) for curve in ours]
    assert shape.ours("local").mean == pytest.approx(np.mean(laws))
    likes = [spearman(curve, law) for curve, law in zip(ours, laws, strict=True)]
    assert shape.ours("like_local").mean == pytest.approx(np.mean(likes))
    last = [
        curve[159:].mean() - curve[:159].mean() for curve in ours
    ]  # three norms and the one behind all blocks
    assert shape.ours("last_block").mean == pytest.approx(np.mean(last))
    (table,) = [table for table in beside_tables(study) if table.name == "paper-shape"]
    assert "over 163 BN layers (the paper's own two curves: 0.91)" in table.finding


def test_of_a_deep_network_the_papers_curve_lies_on_ours():
    study = as_deep_as_the_papers(lambda seed, curve: curve + seed, "preresnet", 163)
    (axes,) = [axes for axes in paper_shift.draw_figure4(study).figure.axes if axes.get_title()]
    theirs, ours = sorted(
        (line for line in axes.lines if np.size(line.get_xdata()) == 163),
        key=lambda line: line.get_linewidth(),
    )
    curve = published("CIFAR10").to_numpy()
    assert theirs.get_ydata() == pytest.approx(curve)
    assert ours.get_ydata() == pytest.approx(curve + 1)
    assert theirs.get_zorder() > ours.get_zorder()


def test_a_curve_that_repeats_the_blocks_pattern_alone_is_not_like_the_papers_within_a_place():
    def pattern(seed: int, curve: np.ndarray) -> np.ndarray:
        means = np.array([curve[place::3].mean() for place in range(3)])
        return np.tile(means, 55)[:163] * np.exp(np.random.default_rng(seed).normal(0, 0.01, 163))

    (shape,) = layer_shapes(as_deep_as_the_papers(pattern, "preresnet", 163))
    assert shape.ours("like").mean > 0.5
    assert abs(shape.ours("in_place").mean) < 0.15
    assert shape.published.in_place > 0.8


def test_networks_of_another_depth_have_no_shape_to_compare(study):
    assert layer_shapes(study) == []


# --- the page


def test_the_findings_say_what_the_published_numbers_say():
    said = " ".join(statements())
    for number in [
        "40 of the 40",
        "36 of the 40",
        "0.17 points",
        "0.32 on",
        "61 of the 64",
        "20% to 71%",
        "178 of the 642",
    ]:
        assert number in said
    assert "the most shifted network is ResNeXt-29-8x64 on both data sets" in said


def test_the_page_shows_panels_and_tables_and_names_the_sweeps_that_are_missing(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("analysis.sections.networks.CHARTS", [])  # of each network: not what this is about
    page = write_report(folder, tmp_path / "report").read_text()

    def section_of(name: str) -> str:
        start = page.index(f'<section id="{name}">')
        return page[start : page.index("</section>", start)]

    section, tables = section_of("paper"), section_of("tables")
    for name in ["paper_figure3", "paper_figure4", "paper-findings"]:
        assert f'id="{name}"' in section
    for name in ["paper-table3", "paper-table4", "paper-table6"]:
        assert f'id="{name}"' in tables
    assert "<code>+sweep=paper_fig5</code>" in section
    assert "as in the paper" in section
    assert not (tmp_path / "report" / "paper_figure5.png").exists()


def test_another_study_gets_one_sentence_and_the_published_findings():
    study = Study("digits", *synthetic.tables(widths=(16,), seeds=range(2)))
    nothing = paper_study(study, folder=Path("nowhere"))
    assert nothing.setting == {}
    assert beside_tables(nothing) == []
    for chart in paper_charts.COMPARISONS:
        with pytest.raises(CannotAnswerError):
            chart.draw(nothing)
    assert set(NETWORKS.values()) == set(paper.figure4()["network"])
