"""flips.csv: the images that a network loses between the modes, against each network by itself."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.schema import TABLES
from experiments.jobs.chunk import run_chunk
from experiments.measuring.flips import find_flips, png_text
from experiments.settings.config import make_job
from experiments.training.stack import ChunkNoise, site_shapes, stack_members, unstack_member
from experiments.training.train import epoch_batches
from tests.experiments.small import CPU, RECIPE, double_network, small_data, small_job, trained_stack

SINGLE = small_data()
DATA = small_data(dtype=torch.double)
JOB = small_job({"seed": [0, 1], "none": True, "dropout": {"rate": [0.6], "placement": ["before_bn"]}})


def test_flips_are_those_of_each_network_by_itself():
    members = JOB.members
    stack, noise, _ = trained_stack(members, DATA)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    found = find_flips(stack, members, noise, DATA, RECIPE, wanted=3)
    assert all(value.equal(before[name]) for name, value in stack.state_dict().items())
    for index, (member, rows) in enumerate(zip(members, found, strict=True)):
        plain = unstack_member(stack, index, double_network(0))
        alone = ChunkNoise(stack_members([member], double_network), noise_shapes(), [member], CPU)
        lost, won, seen = [], 0, 0
        for number, batch in enumerate(epoch_batches(member.seed, "flips", 200, 16, CPU)):
            factors = {name: site.factor(f"flips {number}", 16) for name, site in alone.active.items()}
            for name, factor in factors.items():
                plain.get_submodule(name).factor = factor[0]
            in_train = plain.train()(DATA.train_inputs[batch])
            for name in factors:
                plain.get_submodule(name).factor = None  # type: ignore[assignment]
            plain.load_state_dict({name: value[index] for name, value in before.items()})
            in_eval = plain.eval()(DATA.train_inputs[batch])
            labels = DATA.train_labels[batch]
            right, still = in_train.argmax(1) == labels, in_eval.argmax(1) == labels
            won += int((still & ~right).sum())
            seen += len(batch)
            lost += [
                (int(sample), a.tolist(), b.tolist())
                for sample, a, b, gone in zip(batch, in_train, in_eval, right & ~still, strict=True)
                if gone
            ]
        assert len(rows) == min(3, len(lost))
        for row, (sample, a, b) in zip(rows, lost[:3], strict=True):
            assert (row["sample"], row["label"]) == (sample, int(DATA.train_labels[sample]))
            assert row["eval_mode_class"] == int(np.argmax(b)) != row["label"] == int(np.argmax(a))
            assert [float(x) for x in row["logits_train_mode"].split()] == pytest.approx(
                a, rel=1e-3, abs=1e-6
            )
            assert [float(x) for x in row["logits_eval_mode"].split()] == pytest.approx(b, rel=1e-3, abs=1e-6)
            assert row["lost"] == pytest.approx(100 * len(lost) / seen)
            assert row["won"] == pytest.approx(100 * won / seen)
    assert sum(map(len, found)) > 0


def noise_shapes() -> dict:
    return site_shapes(double_network(0), DATA.train_inputs[:2])


def test_a_job_keeps_flips_only_when_asked():
    assert "flips.csv" not in run_chunk(JOB, JOB.members, SINGLE)
    asked = make_job(JOB.config | {"measure": {"draws": 1, "flips": 2}})
    rows = run_chunk(asked, asked.members, SINGLE)["flips.csv"]
    assert rows
    assert all(set(row) <= set(TABLES["flips.csv"].columns) for row in rows)
    assert {row["image"] for row in rows} == {""}  # these data are no images
    per_member = [(row["seed"], row["placement"], row["strength"]) for row in rows]
    assert max(map(per_member.count, per_member)) <= 2


def test_an_image_is_kept_with_the_pixels_of_its_file():
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, 8, 6), generator=random)
    mean, std = torch.tensor([100.0, 120, 90])[:, None, None], torch.tensor([50.0, 60, 70])[:, None, None]
    data = replace(SINGLE, pixel_mean=mean, pixel_std=std)
    stored = Image.open(io.BytesIO(base64.b64decode(png_text(data, (pixels - mean) / std))))
    assert np.array_equal(np.asarray(stored), pixels.permute(1, 2, 0).numpy())
    large = png_text(data, torch.zeros(3, 256, 128))
    assert Image.open(io.BytesIO(base64.b64decode(large))).size == (32, 64)
