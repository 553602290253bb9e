import json
from pathlib import Path

import pytest

from analysis.findings import main
from tests.analysis import synthetic
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
    assert all(f"### C{number}\n" in text for number in range(1, 15))
    assert "`python -m experiments.run data.root=PATH/data 'members.seed=[0, 1]'`" in text
    assert "/home/me" not in text
    assert "| main | before_bn | the exact law |" in text
    rows = [line for line in text.splitlines() if line.startswith("| C")]
    assert len(rows) == 14
    assert "`python -m experiments.run +sweep=normalisers` would." in text
    assert main([str(studies[0]), "--out", str(tmp_path / "again.md")]) == 0
    assert (tmp_path / "again.md").read_text() == text


def test_findings_tell_how_much_of_the_gap_is_shift(tmp_path):
    """Planted: the shift alone causes half of what the noise costs."""
    members, layers = synthetic.tables(widths=(16,), noises=("dropout",), seeds=range(5))
    twin = (
        members[members["noise"] == "none"]
        .set_index("seed")["test_error"]
        .reindex(members["seed"])
        .to_numpy()
    )
    members = members.assign(lr=0.1, test_error_transplanted=(members["test_error"] + twin) / 2)
    members.loc[members["noise"] == "none", "test_error_transplanted"] = float("nan")
    folder = synthetic.write(tmp_path / "study", members, layers.assign(lr=0.1))
    assert main([str(folder), "--out", str(tmp_path / "F.md")]) == 0
    rows = [
        line
        for line in (tmp_path / "F.md").read_text().splitlines()
        if line.startswith("| study | before_bn | 0.7 ")
    ]
    assert "| 50 % [50, 50] |" in rows[0]


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
