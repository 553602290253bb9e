"""A data set of the user's own: what it may be, what becomes of it, and the line for all else."""

import pytest
import torch

from tests.conftest import files_below
from tests.experiments.small import loaded

HEAD = """
import numpy as np
import torch
from torch.utils.data import TensorDataset
x, y = np.arange(24.0).reshape(8, 3), np.arange(8) % 2
class Listed(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return x[index], int(y[index])
def load():
    return {}
"""


def own(folder, returned: str):
    file = folder / "mine.py"
    file.write_text(HEAD.format(returned))
    return loaded({"name": "custom", "target": f"{file}:load", "source": None, "validation": 0})


@pytest.mark.parametrize(
    "returned",
    [
        "(x, y), (x[:4], y[:4])",
        "[[torch.tensor(x), torch.tensor(y)], (x.astype(int)[:4], y.astype(np.uint8)[:4])]",
        "(x.tolist(), y.tolist()), (torch.tensor(x[:4], requires_grad=True), y[:4])",
        "TensorDataset(torch.tensor(x), torch.tensor(y)), (x[:4], y[:4])",
        "Listed(), torch.utils.data.Subset(Listed(), range(4))",
    ],
)
def test_arrays_tensors_lists_and_datasets_are_the_same_data(tmp_path, returned):
    data = own(tmp_path, returned)
    assert data.train_inputs.equal(torch.arange(24.0).view(8, 3))
    assert data.test_inputs.equal(torch.arange(12.0).view(4, 3))
    assert data.train_labels.equal(torch.arange(8) % 2)
    assert (data.classes, data.sample_shape, data.train_labels.dtype) == (2, (3,), torch.int64)
    assert not data.test_inputs.requires_grad
    assert data.fingerprint.startswith("8 + 4 samples, contents ")
    assert data.fingerprint == own(tmp_path, "(x, y), (x[:4], y[:4])").fingerprint
    assert data.fingerprint != own(tmp_path, "(x + 1e-3, y), (x[:4], y[:4])").fingerprint
    assert data.fingerprint != own(tmp_path, "(x, 1 - y), (x[:4], y[:4])").fingerprint


GOOD = "(x[:4], y[:4])"
BAD = [
    ("1 / 0, 2", "called with () it raises ZeroDivisionError: ", "(train, test)"),
    ("x", "it returns a ndarray", "(train, test), each a pair"),
    ("x, y, x, y", "it returns 4 values", "(train, test), each a pair"),
    (f"x, {GOOD}", "its train part, a ndarray, cannot be read", "(train, test), each a pair"),
    (f"(x, y, y), {GOOD}", "its train part, 3 values, cannot be read", "(train, test), each a pair"),
    (f"(x, ['a'] * 8), {GOOD}", "its train part, 2 values, cannot be read", "(train, test), each a pair"),
    (
        f"(x, y[:7]), {GOOD}",
        "its train part has inputs [8, 3] and labels [7]",
        "inputs [N, ...] and labels [N]",
    ),
    (
        f"(x[:, 0], y), {GOOD}",
        "its train part has inputs [8] and labels [8]",
        "inputs [N, ...] and labels [N]",
    ),
    (f"(x, y[:, None]), {GOOD}", "inputs [8, 3] and labels [8, 1]", "inputs [N, ...] and labels [N]"),
    ("(x, y), (x[:0], y[:0])", "its test part has inputs [0, 3] and labels [0]", "not empty"),
    ("(x, y), (x[:, :2], y)", "its samples have shape [3] in train, [2] in test", "one shape"),
    (
        f"(x, y.astype(float)), {GOOD}",
        "its train labels are torch.float64",
        "whole numbers, such as torch.int64",
    ),
    (f"(x, y > 0), {GOOD}", "its train labels are torch.bool", "whole numbers"),
    (f"(x + np.nan, y), {GOOD}", "not all of its train inputs are finite real numbers", "finite"),
    ("(x, y), (x * 1e39, y)", "not all of its test inputs are finite real numbers in float32", "finite"),
    (f"(x * 1j, y), {GOOD}", "not all of its train inputs are finite real numbers", "finite"),
    (
        f"(x, y + 1), {GOOD}",
        "its labels are 1 to 2 (2 different) in train, 0 to 1 (2 different) in test",
        "0 to K",
    ),
    (f"(x, y * 2), {GOOD}", "its labels are 0 to 2 (2 different) in train", "0 to K - 1"),
    (f"(x, y - 1), {GOOD}", "its labels are -1 to 0 (2 different) in train", "0 to K - 1"),
    (f"(x, y * 0), {GOOD}", "its labels are 0 to 0 (1 different) in train", "at least two"),
    ("(x, y), (x, y + 1)", "1 to 2 (2 different) in test", "each of them in train"),
]


@pytest.mark.parametrize(("returned", "fault", "allowed"), BAD, ids=[bad[1] for bad in BAD])
def test_data_that_cannot_be_trained_on_is_one_line(run, tmp_path, tiny, returned, fault, allowed):
    (tmp_path / "mine.py").write_text(HEAD.format(returned))
    before = files_below(tmp_path)
    ended = run(*tiny, "data=custom", "data.target=mine.py:load", "recipe.batch_size=4")
    assert ended.status == 2
    assert ended.err.startswith("error: data.target=mine.py:load: "), ended.err
    assert len(ended.err.splitlines()) == 1
    assert fault in ended.err
    assert allowed in ended.err.partition("; allowed is ")[2]
    assert files_below(tmp_path) == before


def test_other_contents_of_the_same_file_are_refused_in_a_study_that_has_members(run, tmp_path, tiny):
    text = HEAD.format("tuple((a['x'], a['y']) for a in [np.load('mine.npz')] * 2)")
    (tmp_path / "mine.py").write_text(text)
    arguments = [*tiny, "data=custom", "data.target=mine.py:load", "recipe.batch_size=4"]
    arguments += ["members.dropout=null"]
    write_arrays(tmp_path, 0.0)
    assert run(*arguments).status == 0
    write_arrays(tmp_path, 1.0)
    ended = run(*arguments, "members.seed=[0,1]")
    assert ended.status == 2
    assert ended.err.startswith("error: data=custom: out/first_look/jobs/")
    assert "was trained on other data (8 + 8 samples, contents " in ended.err
    assert len(ended.err.splitlines()) == 1


def test_two_data_sets_of_one_name_are_no_study(run, tmp_path, tiny):
    for name, returned in (("a", "(x, y), (x, y)"), ("b", "(x + 1, y), (x, y)")):
        (tmp_path / f"{name}.py").write_text(HEAD.format(returned))
    arguments = ["-m", "data=custom", "data.target=a.py:load,b.py:load", "recipe.batch_size=4"]
    ended = run(*tiny, *arguments)
    assert (ended.status, ended.err) == (
        2,
        "error: data=custom: this command has two sets of data of this name, which rows do not tell apart; choose "
        "a study=NAME for each\n",
    )


def write_arrays(folder, shift: float) -> None:
    import numpy as np

    from experiments.jobs.job_data import cached_data

    np.savez(folder / "mine.npz", x=np.arange(24.0).reshape(8, 3) + shift, y=np.arange(8) % 2)
    cached_data.cache_clear()  # another command is another process
