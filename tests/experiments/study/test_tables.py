"""Tables as files: complete or absent, and numbers that come back as the same doubles."""

import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.study.tables import TABLES, read_table, write_table
from tests.conftest import IDENTITY


def test_the_columns_promised_to_users_are_there_and_identify_first():
    promised = {
        "members.csv": "status steps seconds train_error_train_mode train_error_eval_mode test_error "
        "test_error_adjusted test_loss test_loss_adjusted",
        "layers.csv": "layer_index layer_name channels moving_var train_var test_var shift_ratio shift_magnitude "
        "local_ratio local_ratio_exact ratio_paper input_mean input_var input_corr fan_in cos2 d_cos2",
        "epochs.csv": "epoch learning_rate train_loss train_error_train_mode train_error_eval_mode test_error",
    }
    for table, names in promised.items():
        columns = TABLES[table]
        assert list(columns[: len(IDENTITY)]) == IDENTITY
        assert set(names.split()) <= set(columns)
        assert len(set(columns)) == len(columns)


@given(st.lists(st.floats(), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_come_back_as_the_same_doubles_and_nan_as_nothing(tmp_path, numbers):
    write_table(tmp_path / "t.csv", ["x"], ({"x": number} for number in numbers))
    texts = [row["x"] for row in read_table(tmp_path / "t.csv")] if len(numbers) else []
    known = [number for number in numbers if not math.isnan(number)]
    assert [float(text) for text in texts if text] == known


def test_what_is_unknown_is_empty_for_pandas_too(tmp_path):
    rows = [{"a": None, "b": float("nan"), "c": 0.0}, {"c": "text, with a comma\nand a line"}]
    write_table(tmp_path / "t.csv", ["a", "b", "c"], rows)
    frame = pd.read_csv(tmp_path / "t.csv")
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame[["a", "b"]].isna().all(axis=None)
    assert list(frame["c"]) == ["0.0", "text, with a comma\nand a line"]
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


def test_an_unknown_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'y'"):
        write_table(tmp_path / "t.csv", ["x"], [{"y": 1}])


def test_a_table_that_breaks_off_leaves_the_old_one_and_the_next_one_nothing_behind(tmp_path):
    path = tmp_path / "t.csv"
    write_table(path, ["x"], [{"x": 1}])
    old = path.read_bytes()

    def rows():
        yield {"x": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, ["x"], rows())
    assert path.read_bytes() == old
    write_table(path, ["x"], [{"x": 3}])
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    assert read_table(path) == [{"x": "3"}]
