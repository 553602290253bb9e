import shlex

import numpy as np
import pandas as pd
import pytest

from analysis.schema import TABLES
from analysis.tables import StudyError, member_label, read_study
from tests.analysis import synthetic

SMALL = {"widths": (16,), "seeds": (0, 1), "noises": ("dropout",)}


def small_study(folder, **changes):
    return synthetic.write(folder, *synthetic.tables(**(SMALL | changes)))


def test_reads_back_what_was_written(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    study = read_study(synthetic.write(tmp_path / "mine", members, layers))
    assert study.name == "mine"
    assert study.members["test_error"].tolist() == members["test_error"].tolist()
    assert study.layers["local_ratio"].equals(layers["local_ratio"].astype(float))
    assert study.layers["layer_index"].tolist() == layers["layer_index"].tolist()


def test_a_folder_is_named_by_a_text_or_by_a_path(tmp_path, monkeypatch):
    folder = small_study(tmp_path / "outputs" / "S")
    monkeypatch.chdir(tmp_path)
    for name in ("outputs/S", "outputs/S/", folder):
        study = read_study(name)
        assert study.name == "S"
        assert len(study.members)
    with pytest.raises(StudyError, match=r"^outputs/T: no such folder; name a study"):
        read_study("outputs/T")


def test_empty_and_infinite_numbers_are_missing(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    layers.loc[0, "shift_ratio"] = np.inf
    study = read_study(synthetic.write(tmp_path, members, layers))
    assert np.isnan(study.layers.loc[0, "shift_ratio"])
    baseline = study.layers[study.layers["noise"] == "none"]
    assert baseline["local_ratio"].isna().all()
    assert len(baseline)


def test_a_network_may_have_no_depth(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    folder = synthetic.write(tmp_path, members.assign(depth=""), layers.assign(depth=""))
    (network,) = read_study(folder).networks()
    assert network.name == "digits, mlp, batch norm"
    assert len(network.layers) == len(layers)


def test_a_study_without_bn_layers_is_a_study(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    assert read_study(synthetic.write(tmp_path, members, layers[:0])).layers.empty


def test_members_that_did_not_finish_leave_with_their_layers(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    lost = (members["strength"] == 0.7) & (members["seed"] == 1)
    study = read_study(synthetic.write(tmp_path, *synthetic.diverge(members, layers, lost)))
    finished = study.finished()
    assert len(finished.members) == len(members) - lost.sum()
    assert len(finished.layers) == len(layers) - 3 * lost.sum()
    assert finished.layers["shift_ratio"].max() < 2
    assert member_label(study.left_out().iloc[0]) == "width 16, before_bn, dropout 0.7, seed 1"


def test_each_network_is_a_study_of_its_own(tmp_path):
    parts = [
        synthetic.tables(**SMALL),
        synthetic.tables(**SMALL, data="cifar10", depth=5),
        synthetic.tables(**SMALL, data="cifar10", depth=7),
    ]
    members, layers = (pd.concat(tables) for tables in zip(*parts, strict=True))
    networks = list(read_study(synthetic.write(tmp_path, members, layers)).networks())
    assert [network.name for network in networks] == [
        "digits, mlp, depth 3, batch norm",
        "cifar10, mlp, depth 5, batch norm",
        "cifar10, mlp, depth 7, batch norm",
    ]
    assert [len(network.layers) / len(network.members) for network in networks] == [3, 5, 7]


def test_learning_rates_are_kept_apart(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    members = pd.concat([members.assign(lr=0.1), members.assign(lr=0.05)])
    layers = pd.concat([layers.assign(lr=0.1), layers.assign(lr=0.05)])
    networks = list(read_study(synthetic.write(tmp_path, members, layers)).networks())
    assert [network.name.split(", ")[-1] for network in networks] == ["lr 0.1", "lr 0.05"]
    assert {network.layers["lr"].nunique() for network in networks} == {1}


def set_value(table: str, column: str, value: str):
    def damage(folder):
        rows = pd.read_csv(folder / table, dtype=str, keep_default_na=False)
        rows.loc[2, column] = value
        rows.to_csv(folder / table, index=False)

    return damage


def epochs_of(members: pd.DataFrame) -> pd.DataFrame:
    """Two epochs of each member."""
    names = [name for name in members if name in TABLES["epochs.csv"].required and name != "test_error"]
    numbers = {"learning_rate": 0.1, "train_loss": 2.0, "test_error": np.nan}
    modes = {"train_error_train_mode": np.nan, "train_error_eval_mode": np.nan}
    return pd.concat([members[names].assign(epoch=epoch, **numbers, **modes) for epoch in (1, 2)])


def test_epochs_are_read_and_go_with_their_members(tmp_path):
    members, layers = synthetic.tables(**SMALL)
    folder = synthetic.write(tmp_path / "study", members, layers)
    assert read_study(folder).epochs.empty  # made before there was such a table
    epochs_of(members).to_csv(folder / "epochs.csv", index=False)
    study = read_study(folder)
    assert len(study.epochs) == 2 * len(members)
    assert str(study.epochs["epoch"].dtype) == "Int64"
    assert study.epochs["test_error"].isna().all()
    assert sum(len(network.epochs) for network in study.networks()) == len(study.epochs)
    part = study.part(study.members.iloc[:3])
    assert (len(part.members), len(part.epochs)) == (3, 6)
    (folder / "epochs.csv").write_text("epoch\n1")
    with pytest.raises(StudyError, match=r"epochs\.csv: no column data"):
        read_study(folder)


def drop_column(table: str, column: str):
    return lambda folder: (
        pd.read_csv(folder / table, dtype=str).drop(columns=column).to_csv(folder / table, index=False)
    )


def repeat_a_member(folder):
    rows = (folder / "members.csv").read_text().splitlines()
    (folder / "members.csv").write_text("\n".join([*rows, rows[4]]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "members.csv").unlink(), "members.csv: no such file"),
        (lambda folder: (folder / "layers.csv").unlink(), "layers.csv: no such file"),
        (lambda folder: (folder / "layers.csv").write_text(""), "not a readable CSV table"),
        (lambda folder: (folder / "layers.csv").write_bytes(b"\x89PNG\xff\xfe"), "not a readable CSV table"),
        (drop_column("members.csv", "status"), "members.csv: no column status"),
        (drop_column("layers.csv", "local_ratio"), "layers.csv: no column local_ratio"),
        (set_value("layers.csv", "shift_ratio", "much"), "shift_ratio in row 3 is 'much'; allowed: a number or"),
        (set_value("layers.csv", "layer_index", "1.5"), "layer_index in row 3 is '1.5'; allowed: a whole number"),
        (set_value("layers.csv", "fan_in", "1e300"), "'1e300'; allowed: a whole number or empty"),
        (set_value("members.csv", "width", ""), "width in row 3 is ''; allowed: a whole number"),
        (set_value("members.csv", "placement", "dropout_a"), "'dropout_a'; allowed: none, before_bn"),
        (set_value("members.csv", "noise", "Dropout"), "noise in row 3 is 'Dropout'; allowed: none, dropout"),
        (set_value("members.csv", "status", "done"), "status in row 3 is 'done'; allowed: ok, diverged, failed"),
        (repeat_a_member, "more than one row for width 16, before_bn, dropout 0.1, seed 1"),
    ],
)  # fmt: skip
def test_what_is_no_study_is_refused_in_one_line(tmp_path, damage, said):
    folder = small_study(tmp_path / "study")
    damage(folder)
    with pytest.raises(StudyError) as error:
        read_study(folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_study_needs_a_folder_and_a_member(tmp_path):
    with pytest.raises(StudyError, match="nowhere: no such folder"):
        read_study(tmp_path / "nowhere")
    members, layers = synthetic.tables(**SMALL)
    with pytest.raises(StudyError, match=r"members\.csv: no rows"):
        read_study(synthetic.write(tmp_path, members[:0], layers[:0]))


def test_a_mode_study_is_told_the_command_of_its_page_quoted(tmp_path):
    folder = tmp_path / "my modes"
    folder.mkdir()
    (folder / "modes.csv").touch()
    with pytest.raises(StudyError, match="a mode study") as refused:
        read_study(folder)
    assert shlex.split(str(refused.value).split("its page: ")[1])[-1] == str(folder)
