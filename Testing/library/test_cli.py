"""The command line as people use it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, cli
from memorization_index._version import __version__
from memorization_index.cli import main
from memorization_index.reference import Reference

PACKAGE = Path(sys.modules["memorization_index"].__file__).parent


def test_a_file_that_is_listed_twice_is_scored_once_and_no_reason_to_fail(tiny, tmp_path: Path, command) -> None:
    query = phantoms.write(tmp_path / "new.nii.gz", phantoms.anatomy(55)[4:7])
    result = command("score", tiny.reference, query, query, "--out", tmp_path / "out", "--fail-on", "copy")
    done = result.events[-1]
    assert (result.code, done["counts"]["volumes"], done["counts"]["skipped"], done["not_examined"]) == (0, 1, 0, [])
    [warning] = result.of("warning")
    assert warning["message"].startswith(f"Given more than once: {query}; each file is used once")


def test_folders_and_keys_that_are_not_there_are_named(tiny, tmp_path: Path, capsys) -> None:
    score = ["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path / "out")]
    assert main([*score, "--training-root", str(tmp_path / "nowhere")]) == 2
    assert f"--training-root {tmp_path / 'nowhere'}: is no folder" in capsys.readouterr().err
    assert main([*score, "--key", str(tmp_path / "no.key")]) == 2
    assert f"--key {tmp_path / 'no.key'}: cannot be read" in capsys.readouterr().err
    assert main([*score, "--device", "cuda"]) == 0
    assert "The device cuda is not used" in capsys.readouterr().err
    assert main(["preview", str(tiny.training), "--subjects", str(tmp_path / "no.csv")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_python_tells_what_the_command_line_tells(tiny, tmp_path: Path, caplog) -> None:
    shutil.copytree(tiny.training, tmp_path / "scans")
    (tmp_path / "scans" / "broken.nii.gz").write_text("broken")
    reference = Reference.build(tmp_path / "scans", tmp_path / "reference")
    assert [r.message for r in caplog.records if r.message.startswith("skipped") and "broken.nii.gz" in r.message]
    assert repr(reference) == "<Reference of 3 subjects, 3 volumes, 9 slices>"
    assert main(["build", str(tmp_path / "scans"), "--out", str(tmp_path / "other")]) == 0
    assert Reference.open(tmp_path / "other").fingerprint == reference.fingerprint


def test_second_score_replaces_the_first(tiny, tmp_path: Path, capsys) -> None:
    for count in (3, 1):
        inputs = sorted(tiny.training.iterdir())[:count]
        assert main(["score", str(tiny.reference), *map(str, inputs), "--out", str(tmp_path)]) == 0
        assert json.loads((tmp_path / "run.json").read_text())["counts"]["volumes"] == count
        assert len((tmp_path / "volumes.csv").read_text().splitlines()) == 1 + count
        assert ("holds a result already; it is replaced" in capsys.readouterr().err) == (count == 1)


def test_folders_with_other_files_are_no_place_for_results(tiny, tmp_path: Path, capsys) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    out = ["--out", str(tmp_path)]
    for arguments, what in (
        (["score", str(tiny.reference), str(tiny.training), *out], "a result"),
        (["evaluate", str(tiny.training), *out], "an evaluation"),
        (["demo", *out], "a demo"),
    ):
        assert main(arguments) == 2
        assert f"holds files (thesis.txt) but is not {what}" in capsys.readouterr().err
    scores = Reference.open(tiny.reference).score(tiny.training)
    with pytest.raises(
        MemorizationIndexError, match=r"holds files \(thesis.txt\) but is not a result; .* empty folder"
    ):
        scores.write(tmp_path)
    with pytest.raises(MemorizationIndexError, match="is a file; expected a folder"):
        scores.write(tmp_path / "thesis.txt")
    with pytest.raises(MemorizationIndexError, match="is a reference; expected a folder for results"):
        scores.write(tiny.reference)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_volume_for_a_reference_of_images_is_told_that_the_reference_decides(tmp_path: Path, command) -> None:
    for subject in range(2):
        phantoms.write(tmp_path / "images" / f"{subject}.nii.gz", phantoms.anatomy(subject)[5:6])
    volume = phantoms.write(tmp_path / "exact.nii.gz", phantoms.anatomy(0)[4:7])
    assert command("build", tmp_path / "images", "--out", tmp_path / "reference").code == 0
    result = command("score", tmp_path / "reference", volume, "--out", tmp_path / "out")
    assert result.code == 2
    [skipped] = result.of("skipped")
    assert skipped["reason"] == (
        f"{volume}: is a 3-D volume, this reference was built on 2-D images; expected 2-D images, so use a reference "
        f"built on volumes."
    )


def test_images_for_a_reference_of_volumes_are_told_what_they_are_compared_with(tiny, tmp_path, command) -> None:
    image = tmp_path / "slice.npy"
    np.save(image, phantoms.anatomy(1)[5])
    result = command("score", tiny.reference, image, "--out", tmp_path / "out")
    assert [e["message"] for e in result.of("warning")] == [
        "The images are 2-D and the reference was built on volumes: they are compared with its axial slices, and a "
        "copy of a slice in another plane is not found."
    ]


def test_a_training_root_that_is_none_is_refused_before_images_are_read(tiny, tmp_path: Path, command) -> None:
    assert command("score", tiny.reference, tiny.training, "--out", tmp_path / "out").code == 0
    gone = ("--training-root", tmp_path / "gone")
    for arguments in (
        ("score", tiny.reference, tiny.training, "--out", tmp_path / "again"),
        ("verify", tiny.reference, "--result", tmp_path / "out", "--queries", tiny.training),
    ):
        result = command(*arguments, *gone)
        assert result.code == 2
        assert result.of("progress") == []
        assert result.events[-1]["message"].startswith(f"--training-root {tmp_path / 'gone'}: is no folder")


def test_a_share_of_copies_by_p_alone_says_so(reference, tmp_path: Path, capsys) -> None:
    """Ten images, of which the training scans are not at hand."""
    for subject in range(50, 60):
        phantoms.write(tmp_path / "new" / f"{subject}.nii.gz", phantoms.anatomy(subject)[3:9])
    (tmp_path / "nothing").mkdir()
    score = ["score", str(reference), str(tmp_path / "new"), "--out", str(tmp_path / "out")]
    assert main([*score, "--training-root", str(tmp_path / "nothing")]) == 0
    assert "(95 % interval) (by p alone; nothing was verified)\n" in capsys.readouterr().out
    assert main(score) == 0
    assert "(95 % interval)\n" in capsys.readouterr().out


def test_json_ends_with_done_and_counts_no_slice_that_cannot_be_verified(tiny, tmp_path: Path, command) -> None:
    [done] = command("verify", tiny.reference).of("done")
    assert done["holds"] is True
    (tmp_path / "nothing").mkdir()
    options = ("--out", tmp_path / "out", "--training-root", tmp_path / "nothing")
    events = command("score", tiny.reference, tiny.training, *options)
    assert len([e for e in events.of("progress") if e["stage"] == "verifying"]) == 1
    assert any(f"{tmp_path / 'nothing'}: the training volume" in e["message"] for e in events.of("warning"))


def test_replacing_a_reference_is_said_after_the_checks(tiny, tmp_path: Path, capsys) -> None:
    build = ["build", str(tiny.training), "--out", str(tmp_path / "reference")]
    said = "holds a reference already; it is replaced when this one is complete"
    assert main(build) == 0
    capsys.readouterr()
    assert main([*build, "--encoder", "nonsense"]) == 2
    assert said not in capsys.readouterr().err
    assert main(build) == 0
    assert said in capsys.readouterr().err


def test_report_is_written_again(tiny, tmp_path: Path, capsys) -> None:
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 0
    report = tmp_path / "report.html"
    first = report.read_bytes()
    for spoil in (report.unlink, lambda: report.write_text("scribble")):
        spoil()
        capsys.readouterr()
        assert main(["report", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"{report}\n"
        assert report.read_bytes() == first


@pytest.mark.parametrize("gone", ["run.json", "slices.csv", "volumes.csv", "pictures.safetensors", None])
def test_report_of_what_is_no_result(tiny, tmp_path: Path, capsys, gone: str | None) -> None:
    if gone:
        assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 0
        (tmp_path / gone).unlink()
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path}: is not a complete result" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run.json", "slices.csv", "volumes.csv", "pictures.safetensors"])
def test_report_of_a_damaged_result(tiny, tmp_path: Path, capsys, name: str) -> None:
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 0
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"{tmp_path}: is not a complete result" in message
    assert "\n" not in message.strip()


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["build"], ["score", "ref"], ["build", "x", "--out", "y", "--plane", "z"]]
)
def test_wrong_use_ends_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: memorization-index" in capsys.readouterr().err


def test_version_help_and_encoders(capsys) -> None:
    for arguments in (["--version"], ["--help"], ["score", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert main(["encoders"]) == 0
    printed = capsys.readouterr().out
    assert __version__ in printed
    assert "a condition of --fail-on is met" in printed
    assert "spectral" in printed


def test_every_argument_has_a_help_text() -> None:
    [commands] = [a.choices for a in cli._parser()._actions if isinstance(a.choices, dict)]
    without = [(name, a.dest) for name, command in commands.items() for a in command._actions if not a.help]
    assert without == []


def test_verify_says_what_it_checked(tiny, capsys) -> None:
    from memorization_index import Reference

    assert main(["verify", str(tiny.reference)]) == 0
    printed = capsys.readouterr().out
    assert f"{tiny.reference}: 7 files agree with the manifest" in printed
    assert Reference.open(tiny.reference).fingerprint in printed


def test_nothing_heavy_is_imported_to_parse_a_command() -> None:
    code = (
        "import sys, memorization_index.cli as c; c._parser(); "
        "print(sorted({'numpy', 'scipy', 'SimpleITK', 'torch', 'rich', 'pydicom', 'PIL', 'faiss'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert run.stdout.decode().strip() == "[]"


def test_results_are_no_scans_and_scans_are_no_place_for_results(tiny, tmp_path, capsys) -> None:
    query = tmp_path / "query"
    phantoms.write(query / "sub-09_T1w.nii.gz", phantoms.anatomy(3)[3:9])
    assert main(["score", str(tiny.reference), str(query), "--out", str(query)]) == 2
    assert "is the folder that is examined" in capsys.readouterr().err
    assert sorted(p.name for p in query.iterdir()) == ["sub-09_T1w.nii.gz"]
    for _ in range(2):  # the second run must not take the maps of the first for scans
        assert main(["score", str(tiny.reference), str(query), "--out", str(query / "result")]) == 0
    run = json.loads((query / "result" / "run.json").read_text())
    assert (run["counts"]["volumes"], run["counts"]["skipped"]) == (1, 0)


def test_build_tells_at_once_that_a_table_beside_the_scans_is_not_used(tmp_path, capsys) -> None:
    for subject in range(3):
        phantoms.write(tmp_path / "scans" / f"{subject}.nii.gz", phantoms.anatomy(subject)[4:7])
    (tmp_path / "scans" / "volumes.csv").write_text("path,subject\n0.nii.gz,a\n1.nii.gz,a\n2.nii.gz,b\n")
    assert main(["build", str(tmp_path / "scans"), "--out", str(tmp_path / "reference")]) == 0
    told = capsys.readouterr().err
    assert told.index("volumes.csv lies beside them: give it instead") < told.index("reading and describing")
    assert main(["build", str(tmp_path / "scans" / "volumes.csv"), "--out", str(tmp_path / "reference")]) == 0
    told = capsys.readouterr().err
    assert "name no subject" not in told
    assert "holds a reference already; it is replaced" in told
