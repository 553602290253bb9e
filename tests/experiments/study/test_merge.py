"""The tables of a whole study: which rows, and in which order."""

from analysis import schema
from experiments.study.job_folder import job_folder, start_job
from experiments.study.merge import merge_tables
from experiments.study.tables import read_table
from tests.conftest import files_below
from tests.experiments.command_line import TABLES
from tests.experiments.study.small_study import finish, make


def test_tables_of_all_jobs_become_one_in_an_order_that_time_does_not_change(study):
    jobs = [make(study, model__width=width) for width in (20, 8, 100)]
    for job in jobs:
        finish(job)
    assert merge_tables(study) == []
    first = files_below(study)
    expected = [(job.name, str(seed)) for job in sorted(jobs, key=lambda job: job.name) for seed in (0, 1)]
    for name in TABLES:
        table = read_table(study / name)
        assert [(r["job"], r["seed"]) for r in table] == expected
        assert tuple(table[0]) == schema.TABLES[name].columns
    for job in reversed(jobs):
        finish(job)
    merge_tables(study)
    again = files_below(study)
    assert all(again[name] == first[name] for name in TABLES)


def test_unfinished_and_damaged_jobs_do_not_reach_the_merged_tables(study):
    whole, damaged, begun = (make(study, model__width=width) for width in (8, 16, 32))
    finish(whole)
    finish(damaged)
    start_job(begun)
    (job_folder(damaged) / "layers.csv").write_text("cut")
    assert merge_tables(study) == [damaged.name]
    for table in TABLES:
        assert {r["job"] for r in read_table(study / table)} == {whole.name}
