"""The one table that a run prints at its end."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.study.summary import print_summary, shortened, summary_means


def tables(seeds: int, status: str = "ok") -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of a study of 1 + 12 + 6 + 12 kinds of noise, with numbers that say where they come from."""
    kinds = [("none", "none", 0.0)]
    for noise, strengths in {
        "dropout": [0.1, 0.3, 0.5, 0.7],
        "uout": [0.1, 1],
        "gaussian": [0.3, 1, 1.5, 3],
    }.items():
        kinds += itertools.product(["before_bn", "before_weight", "after_last_bn"], [noise], strengths)
    rows = [
        {
            **{"data": "digits", "model": "mlp", "width": 64, "depth": 3, "norm": "batch"},
            **{"placement": placement, "noise": noise, "strength": strength, "noise_variance": strength},
            **{"seed": seed, "lr": 0.1, "weight_decay": 0.0, "batch_size": 64, "status": status, "steps": 1},
            **{"test_error": 2.0 + seed, "test_error_adjusted": 1.5, "job": "job"},
        }
        for (placement, noise, strength), seed in itertools.product(kinds, range(seeds))
    ]
    members = pd.DataFrame(rows)
    layers = members.drop(columns=["status"]).assign(layer_index=1, shift_ratio=0.75, local_ratio=0.5)
    layers = layers.assign(local_ratio_exact=0.625, ratio_paper=0.375, layer_name="bn", shift_magnitude=4 / 3)
    if status != "ok":
        layers = layers.head(0)
    return members, layers


def test_the_table_at_the_end_fits_80_columns_and_names_every_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    members, layers = tables(seeds=3)
    print_summary(members, layers)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [heading in " ".join(lines) for heading in ("exact", "law", "8/12")] == [True] * 3
    (row,) = [line.split() for line in lines if line.startswith("before_weight dropout 0.5")]
    # half of Student's t interval over test errors 2, 3 and 4: 4.303 / sqrt(3)
    assert " ".join(row) == "before_weight dropout 0.5 0.750 ±0.000 0.500 0.625 0.375 ?3.0 ±2.5 1.5"
    assert lines[-1] == f"{len(members)} members ok"


def test_what_is_undecided_is_marked_and_what_did_not_finish_is_counted(capsys, monkeypatch):
    """Dropout 0.5 costs a point in every seed, 0.1 nothing that can be told; the ratio holds 1 at 0.3 alone."""
    monkeypatch.setenv("COLUMNS", "200")
    members, layers = tables(seeds=4)
    members, layers = (table[table.noise.isin(["none", "dropout"])] for table in (members, layers))
    spread = members.seed.map({0: 0.0, 1: 0.01, 2: 0.02, 3: -0.02})
    members = members.assign(
        test_error=members.test_error + (members.strength == 0.5) + spread * members.strength
    )
    weak = layers.strength == 0.3
    layers = layers.assign(
        shift_ratio=layers.shift_ratio.mask(weak, 1 + layers.seed.map([-0.1, 0.1, 0, 0].__getitem__))
    )
    lost = (members.placement == "before_bn") & (members.strength == 0.7) & (members.seed == 3)
    members = members.assign(status=members.status.mask(lost, "diverged"))
    means = summary_means(members, layers).set_index(["placement", "strength"])
    assert means.loc["before_bn", "test_error_undecided"].to_dict() == {
        0.1: True,
        0.3: True,
        0.5: False,
        0.7: True,
    }
    assert means.loc["before_bn", "shift_ratio_undecided"].to_dict() == {
        0.1: False,
        0.3: True,
        0.5: False,
        0.7: False,
    }
    assert not means.loc[("none", 0.0), "test_error_undecided"]
    print_summary(members, layers)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    of_kind = {" ".join(line.split()[:3]): line for line in lines}
    assert "?" in of_kind["before_bn dropout 0.1"]
    assert "?" not in of_kind["before_bn dropout 0.5"]
    assert of_kind["before_bn dropout 0.7"].endswith(" 1/4")
    assert any(line.startswith("? undecided: ") for line in lines)
    assert lines[-1] == "51 members ok, 1 members diverged"


def test_networks_stand_below_each_other_and_fit_80_columns(capsys):
    members, layers = tables(seeds=3)
    many = [("group", "a_network_of_a_long_name"), ("batch", "mlp")]
    both = [
        pd.concat([table.assign(norm=norm, model=model, status="ok") for norm, model in many])
        for table in (members, layers)
    ]
    both[0].loc[both[0].seed == 0, "status"] = "failed"
    print_summary(*both)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "model a_network_of_a_long_name, norm group" in lines
    assert "model mlp, norm batch" in lines
    assert sum(line.startswith("before_weight dropout 0.5") for line in lines) == 2


def test_few_seeds_are_told_what_gives_intervals(capsys):
    print_summary(*tables(seeds=2))
    assert "Fewer than 3 seeds give no intervals; members.seed=[0,1,2,3,4] would." in capsys.readouterr().out


def test_a_long_table_is_cut_to_the_first_families_and_says_so(capsys):
    members, layers = tables(seeds=1)
    print_summary(members, layers)
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if " dropout " in line]) == 12
    assert "±" not in out.split("over seeds")[1]  # a single seed has no interval
    assert "uout 0.1" in out
    assert "gaussian 3" not in out
    assert "and 12 rows of gaussian: see the report" in out
    kept = shortened(pd.DataFrame({"noise": ["gaussian"] * 30}))
    assert len(kept) == 30


def test_a_study_without_any_result_has_a_table_all_the_same(capsys):
    members, layers = tables(seeds=2, status="failed")
    print_summary(members, layers)
    out = capsys.readouterr().out
    assert f"{len(members)} members failed" in out
    assert "before_bn" in out


def test_means_are_over_seeds_of_means_over_layers_and_widths():
    random = np.random.default_rng(0)
    members, layers = tables(seeds=4)
    wide, wide_layers = (table.assign(width=256) for table in (members, layers))
    members, layers = (
        pd.concat([members, wide]),
        pd.concat([layers, layers.assign(layer_index=2), wide_layers]),
    )
    layers["shift_ratio"] = random.uniform(0.2, 0.9, len(layers))
    means = summary_means(members, layers).set_index(["placement", "noise", "strength"])
    assert len(means) == 31
    for kind, rows in layers.groupby(["placement", "noise", "strength"]):
        seeds = [part["shift_ratio"].mean() for _, part in rows.groupby("seed")]
        _, high = stats.t.interval(0.95, 3, np.mean(seeds), stats.sem(seeds))
        assert means.loc[kind, "shift_ratio"] == pytest.approx(np.mean(seeds))
        assert means.loc[kind, "shift_ratio_high"] == pytest.approx(high)


def test_two_seeds_have_no_interval(capsys):
    print_summary(*tables(seeds=2))
    assert "±" not in capsys.readouterr().out.split("over seeds")[1]


def test_shift_ratio_is_over_the_layers_that_local_is_over():
    members, layers = tables(seeds=3)
    quiet = layers.assign(layer_index=2, shift_ratio=1.0, local_ratio=None, ratio_paper=None)
    means = summary_means(members, pd.concat([layers, quiet])).set_index(["placement", "noise", "strength"])
    assert means.loc[("before_weight", "dropout", 0.5), "shift_ratio"] == 0.75
    assert means.loc[("none", "none", 0.0), "shift_ratio"] == 0.875  # none has noise: all layers


def test_networks_that_a_study_varies_have_rows_of_their_own():
    members, layers = tables(seeds=2)
    both = [pd.concat([table, table.assign(norm="group")]) for table in (members, layers)]
    means = summary_means(*both)
    assert means["norm"].value_counts().to_dict() == {"batch": 31, "group": 31}
    assert means["placement"].unique().tolist() == ["none", "before_bn", "before_weight", "after_last_bn"]
