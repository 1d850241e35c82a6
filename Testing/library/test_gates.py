"""``--fail-on`` as a gate: it does not pass what it cannot tell."""

import shutil
from pathlib import Path

import phantoms
from memorization_index.cli import main


def test_fail_on_copy_is_a_gate(tiny, tmp_path: Path, command) -> None:
    phantoms.write(tmp_path / "new" / "new.nii.gz", phantoms.anatomy(55)[4:7])
    for queries, arguments, code in [
        (tiny.training, [], 0),
        (tiny.training, ["--fail-on", "copy"], 3),
        (tmp_path / "new", ["--fail-on", "copy"], 0),
        (tmp_path / "gone", ["--fail-on", "copy"], 2),
    ]:
        result = command("score", tiny.reference, queries, "--out", tmp_path / "out", *arguments)
        assert result.code == code
        assert (result.events[-1]["event"] == "done") == (code != 2)
        if code == 3:
            assert len(result.events[-1]["fail_on"]["copy"]) == 3


def test_a_gate_does_not_pass_what_it_cannot_tell(tiny, tmp_path: Path, command, capsys) -> None:
    """Matches that were not compared, and files that could not be read, are no reason for an exit code of 0."""
    shutil.copytree(tiny.training, tmp_path / "training")
    assert main(["build", str(tmp_path / "training"), "--out", str(tmp_path / "reference")]) == 0
    (tmp_path / "training").rename(tmp_path / "away")
    score = ("score", tmp_path / "reference", "--out", tmp_path / "out", tmp_path / "away")
    result = command(*score, "--fail-on", "copy", "--fail-on", "exact")
    assert result.code == 5
    assert result.events[-1]["fail_on"] == {}
    assert {gate: len(names) for gate, names in result.events[-1]["cannot_tell"].items()} == {"copy": 3, "exact": 3}
    assert command(*score).code == 0
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Whether 3 examined images copied the training set of 3 subjects could not be judged" in report
    assert "No evidence of copying" not in report
    assert main([*map(str, score), "--fail-on", "copy"]) == 5
    printed = capsys.readouterr()
    assert "--fail-on copy: cannot be told of 3 volumes (" in printed.out
    assert (
        "a copy where half of its slices are flagged and follow one training volume in order, else susp" in printed.err
    )
    assert command(*score, "--fail-on", "copy", "--training-root", tmp_path / "away").code == 3

    phantoms.write(tmp_path / "new" / "new.nii.gz", phantoms.anatomy(55)[4:7])
    (tmp_path / "new" / "broken.nii.gz").write_text("broken")
    new = ["score", str(tiny.reference), str(tmp_path / "new"), "--out", str(tmp_path / "out")]
    assert main([*new, "--fail-on", "copy"]) == 5
    printed = capsys.readouterr().out
    assert "1 volume: 1 uncalibrated. Skipped: 1 file. Report: " in printed
    broken = tmp_path / "new" / "broken.nii.gz"
    assert f"--fail-on: cannot be told of 1 file ({broken}) that could not be examined" in printed
    assert main(new) == 0
    result = command(*new, "--fail-on", "copy")
    assert (result.code, result.events[-1]["cannot_tell"]) == (5, {})
    assert result.events[-1]["not_examined"] == [str(broken)]


def test_a_gate_names_the_first_files_that_could_not_be_examined(tiny, tmp_path: Path, capsys) -> None:
    phantoms.write(tmp_path / "new" / "new.nii.gz", phantoms.anatomy(55)[4:7])
    for number in range(7):
        (tmp_path / "new" / f"broken-{number}.nii.gz").write_text("broken")
    score = ["score", str(tiny.reference), str(tmp_path / "new"), "--out", str(tmp_path / "out"), "--fail-on", "copy"]
    assert main(score) == 5
    printed = capsys.readouterr().out
    assert "told of 7 files (" in printed
    assert "broken-4.nii.gz, … and 2 more) that could not be examined" in printed
