import json
import subprocess
from pathlib import Path

import pytest

from analysis.claims import CLAIMS, QUESTIONS
from analysis.findings import families, main, outputs_of
from analysis.tables import Study
from tests.analysis import synthetic
from tests.analysis.planted import planted_costs
from tests.full_disk import full_disk
from tests.no_files import put


@pytest.fixture
def studies(tmp_path) -> list[Path]:
    """A study, and one of drawn data."""
    shape = {"widths": (16, 64), "noises": ("dropout",), "seeds": range(4)}
    real = synthetic.write(tmp_path / "main", *synthetic.tables(**shape))
    command = ["/usr/bin/python3", "-m", "experiments.run", "data.root=/home/me/data", "members.seed=[0, 1]"]
    (real / "environment.json").write_text(json.dumps({"command": command}))
    return [real, synthetic.write(tmp_path / "drawn", *synthetic.tables(**shape, data="gaussian"))]


def test_findings_hold_every_claim_and_the_numbers_of_claims_csv(studies, tmp_path, capsys):
    out = tmp_path / "FINDINGS.md"
    assert main([str(studies[0]), "--out", str(out)]) == 0
    text = out.read_text()
    names = [claim.name for claim in (*CLAIMS, *QUESTIONS)]
    assert all(f"### {name}\n" in text for name in names)
    assert "`python -m experiments.run data.root=PATH/data 'members.seed=[0, 1]'`" in text
    assert "/home/me" not in text
    assert "| main | before_bn | the exact law |" in text
    rows = [line for line in text.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0].removeprefix("| [") for row in rows] == names
    assert "`python -m experiments.run +sweep=normalisers` would." in text
    assert main([str(studies[0]), "--out", str(tmp_path / "again.md")]) == 0
    assert (tmp_path / "again.md").read_text() == text


def test_findings_lie_beside_the_first_study_unless_told_otherwise(studies, capsys):
    """And may be written again by the same command, `outputs/*`, which then names them and other pages too."""
    outputs = studies[0].parent
    (outputs / "compare-a-b").mkdir()
    for _ in range(2):
        assert main([*map(str, sorted(outputs.iterdir()))]) == 0
        said = capsys.readouterr()
        assert said.out == f"findings: {outputs / 'FINDINGS.md'}\n"
        assert f"{outputs / 'compare-a-b'}: left out, no study of networks" in said.err
    assert f"{outputs / 'FINDINGS.md'}: left out, no study of networks" in said.err
    (studies[0] / "jobs").mkdir()
    assert outputs_of(studies[0] / "jobs" / "one") == outputs


def test_a_tracked_file_is_not_overwritten_silently(studies, tmp_path, capsys):
    repository = tmp_path / "a repository"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    out = repository / "F.md"
    out.write_text("mine")
    for words in (["init", "-q"], ["add", "F.md"]):
        subprocess.run([*git, *words], check=True)
    untracked = repository / "other.md"
    untracked.write_text("old")
    assert main([str(studies[0]), "--out", str(untracked)]) == 0
    assert capsys.readouterr().err == ""
    assert main([str(studies[0]), "--out", str(out)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"findings: {out}: git tracks this file; it is overwritten, git diff '{out}' shows by what"


def test_questions_of_ours_are_no_disagreement_with_the_paper_and_corrections_stay(studies, tmp_path):
    out = tmp_path / "FINDINGS.md"
    assert main([str(studies[0]), "--out", str(out)]) == 0
    text = out.read_text()
    against = text.split("## Where this disagrees with the paper")[1].split("##")[0]
    assert "[Q" not in against
    ours = text.split("## Questions of ours")[1]
    assert "### Q1" in ours
    assert "### C" not in ours
    corrections = text.split("## Corrections")[1].splitlines()
    assert sum(line.startswith("- 2026-11-29: ") for line in corrections) >= 17
    assert "up to 0.7 false decisions are expected" in text


def test_a_claim_counts_in_the_study_that_was_meant_for_it(studies, tmp_path):
    """The sweep that made a study says so, whatever the study is called; others stand beside it."""
    meant = synthetic.write(tmp_path / "ours", *synthetic.tables(widths=(16,), noises=("dropout",)))
    command = ["python", "-m", "experiments.run", "+sweep=variance_shift", "study=ours"]
    (meant / "environment.json").write_text(json.dumps({"command": command}))
    out = tmp_path / "FINDINGS.md"
    assert main([str(studies[0]), str(meant), "--out", str(out)]) == 0
    row = next(line for line in out.read_text().splitlines() if line.startswith("| [C1]"))
    assert row.split("|")[2:5] == [" ours ", " supported ", " main supported (networks in common with ours) "]
    row = next(line for line in out.read_text().splitlines() if line.startswith("| [C8]"))
    assert row.split("|")[2:4] == [" paper_table3 ", " not among these studies "]
    assert "Networks in common, not to be counted twice: main, ours." in out.read_text()


def test_networks_in_common_are_found_by_their_numbers_also_through_a_third_study():
    members, layers = synthetic.tables(widths=(16, 64, 256), noises=("dropout",), seeds=range(3))
    width = members["width"]
    parts = {"a": width == 16, "b": width <= 64, "c": width == 64, "d": width == 256}
    studies = [Study(name, members[which], layers) for name, which in parts.items()]
    other = members.assign(test_error=members["test_error"] + 0.1)  # other seeds of chance, same settings
    studies.append(Study("e", other, layers))
    found = families(studies)
    assert found == {
        "a": ("a", "b", "c"),
        "b": ("a", "b", "c"),
        "c": ("a", "b", "c"),
        "d": ("d",),
        "e": ("e",),
    }


def test_findings_tell_what_the_shift_costs_and_through_what(tmp_path):
    """Planted: wrong means cost 6 points at rate 1, wrong variances help by 2, before_bn only."""
    members = planted_costs(means=6.0, variances=-2.0, every=0.0, spread=0.01)
    cells = ["frozen", "means_right", "variances_right"]
    elsewhere = members["placement"] != "before_bn"
    for cell in cells:
        members.loc[elsewhere, f"test_error_{cell}"] = members["test_error_both_right"]
    _, layers = synthetic.tables(widths=(16, 64), seeds=range(6), noises=("dropout",))
    folder = synthetic.write(tmp_path / "study", members.assign(lr=0.1), layers.assign(lr=0.1))
    assert main([str(folder), "--out", str(tmp_path / "F.md")]) == 0
    text = (tmp_path / "F.md").read_text()
    rows = [
        line for line in text.splitlines() if line.startswith("| study | before_") or "after_last" in line
    ]
    strong = next(row for row in rows if "before_bn dropout 0.7" in row)
    assert strong.count(": harms |") == 1
    assert strong.count(": helps |") == 1
    assert not [row for row in rows if "after_last_bn dropout" in row]
    assert "8 of 12 kinds of noise in study" in text


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000], ids=lambda c: repr(c[:9]))
def test_an_environment_that_cannot_be_read_is_one_line(studies, tmp_path, content, capsys):
    (studies[0] / "environment.json").write_bytes(content)
    assert main([str(studies[0]), "--out", str(tmp_path / "F.md")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"findings: {studies[0] / 'environment.json'}: not ")
    assert not (tmp_path / "F.md").exists()


def test_drawn_data_are_no_findings(studies, tmp_path, capsys):
    assert main([*map(str, studies), "--out", str(tmp_path / "F.md")]) == 0
    assert "drawn: left out" in capsys.readouterr().err
    assert main([str(studies[1]), "--out", str(tmp_path / "none.md")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("findings: none of these studies")
    assert main([str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "none.md").exists()


@pytest.mark.timeout(60)
def test_findings_that_cannot_be_written_leave_the_old_ones(studies, tmp_path, capsys):
    (tmp_path / "F.md").write_text("old")
    with full_disk():
        assert main([str(studies[0]), "--out", str(tmp_path / "F.md")]) == 2
    assert (tmp_path / "F.md").read_text() == "old"
    put("pipe", studies[0] / "environment.json")
    assert main([str(studies[0]), "--out", str(tmp_path / "F.md")]) == 2
    full, pipe = capsys.readouterr().err.splitlines()
    assert "too large" in full
    assert "is a pipe, not a file" in pipe
    assert {path.name for path in tmp_path.iterdir()} == {"F.md", "main", "drawn"}
