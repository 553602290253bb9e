"""The peer in JAX that scripts/bench stands beside trains the networks that the harness trains."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("jax", reason="needs the extra `bench`")

from experiments.data import load_data
from experiments.jobs.job import run_job
from experiments.settings.plan import plan_jobs
from scripts.benchmark.jax_peer import jax_seconds


@pytest.mark.long
def test_the_peer_in_jax_reaches_the_harness_s_shift_ratios(tmp_path):
    overrides = [
        "+sweep=variance_shift",
        "model.width=16",
        "recipe.epochs=20",
        f"output={tmp_path}",
        "study=peer",
    ]
    (job,) = plan_jobs(
        [*overrides, "members.seed=[0,1,2,3]", "measure.interventions=false"], multirun=False
    ).jobs
    run_job(job)
    (file,) = job.folder.glob("jobs/*/layers.csv")
    layers = pd.read_csv(file, keep_default_na=False)
    by_member = layers.pivot_table("shift_ratio", ["placement", "noise", "strength", "seed"], "layer_index")
    ours = {key: group.to_numpy() for key, group in by_member.groupby(["placement", "noise", "strength"])}
    theirs: dict[tuple, list[np.ndarray]] = {}
    for member, ratios in jax_seconds(job, load_data(job.data))[2]:
        theirs.setdefault((member.placement, member.noise, member.strength), []).append(ratios)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 29
    for key, members in ours.items():
        # Other draws, other networks: four of each differ by chance.
        spread = np.std(members, 0, ddof=1) / 2 + np.std(theirs[key], 0, ddof=1) / 2
        assert np.all(np.abs(np.mean(members, 0) - np.mean(theirs[key], 0)) < 4 * spread + 0.01), key
