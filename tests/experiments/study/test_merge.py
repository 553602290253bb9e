"""The tables of a whole study: which rows, and in which order."""

import resource
from pathlib import Path

from analysis import schema
from experiments.study.inventory import take_inventory
from experiments.study.merge import merge_tables
from experiments.study.part import part_folder, read_part, start_part, write_record
from experiments.study.tables import columns_of, read_table
from tests.conftest import files_below
from tests.experiments.command_line import TABLES
from tests.experiments.counting import count_calls
from tests.experiments.study.small_study import finish, make


def merged(study) -> list[tuple[str, str, str]]:
    """Which rows a study shows: setting, seed and strength of each."""
    merge_tables(take_inventory(study))
    rows = {name: [(r["job"], r["seed"], r["strength"]) for r in read_table(study / name)] for name in TABLES}
    assert rows["members.csv"] == rows["layers.csv"] == rows["epochs.csv"]
    return rows["members.csv"]


def test_tables_of_all_parts_become_one_in_an_order_that_time_does_not_change(study):
    jobs = [make(study, model__width=width) for width in (20, 8, 100)]
    for job in jobs:
        finish(job)
    expected = [(name, seed, "0.0") for name in sorted(job.setting_name for job in jobs) for seed in "01"]
    assert merged(study) == expected
    first = files_below(study)
    assert all(tuple(columns_of(study / name)) == schema.TABLES[name].columns for name in TABLES)
    for job in reversed(jobs):
        finish(job)
    assert merged(study) == expected
    again = files_below(study)
    assert all(again[name] == first[name] for name in TABLES)


def test_rows_are_read_one_by_one_only_where_parts_lie_between_each_other(study, monkeypatch):
    from experiments.study import tables

    read = count_calls(monkeypatch, tables, "_by_member")
    seeds = [make(study, {"seed": [seed]}) for seed in (2, 0, 1)]
    for job in seeds:
        finish(job)
    name = seeds[0].setting_name
    assert merged(study) == [(name, seed, "0.0") for seed in "012"]
    assert not read
    rate = {"rate": [0.2], "placement": ["before_bn"]}
    finish(make(study, {"seed": [0, 1], "none": False, "dropout": rate}))
    assert merged(study) == [
        (name, seed, strength)
        for seed, strength in zip("00112", ("0.0", "0.2", "0.0", "0.2", "0.0"), strict=True)
    ]
    assert read.total() == 2 * 3  # the part of seed 1, and the new one around it


def test_a_member_that_several_parts_hold_is_shown_once(study):
    finish(make(study, {"seed": [0, 1]}))
    finish(make(study, {"seed": [1, 2]}))
    assert [seed for _, seed, _ in merged(study)] == ["0", "1", "2"]


def test_columns_of_another_version_are_left_out_or_empty(study):
    job = finish(make(study))
    path = part_folder(job) / "members.csv"
    columns = [name for name in schema.TABLES["members.csv"].columns if name != "test_loss"]
    lines = [",".join(["newer", *columns])]
    lines += [",".join(["1", *(row[name] for name in columns)]) for row in read_table(path)]
    path.write_text("\n".join(lines) + "\n")
    part = read_part(part_folder(job))
    assert part
    write_record(part.folder, part, None, None)
    assert [seed for _, seed, _ in merged(study)] == ["0", "1"]
    assert tuple(columns_of(study / "members.csv")) == schema.TABLES["members.csv"].columns


def test_a_thousand_parts_are_merged_with_few_open_files(study):
    """Those of one seed each, between all of which lies one of all seeds."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for seed in range(60):
        finish(make(study, {"seed": [seed]}))
    rate = {"rate": [0.2], "placement": ["before_bn"]}
    finish(make(study, {"seed": list(range(60)), "none": False, "dropout": rate}))
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, limits[1]))
    try:
        assert len(merged(study)) == 120
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_unfinished_and_damaged_parts_do_not_reach_the_merged_tables(study):
    whole, damaged, begun = (make(study, model__width=width) for width in (8, 16, 32))
    finish(whole)
    finish(damaged)
    start_part(begun)
    (part_folder(damaged) / "layers.csv").write_text("cut")
    assert take_inventory(study).damaged == [part_folder(damaged)]
    assert {job for job, _, _ in merged(study)} == {whole.setting_name}
