"""The command line as people, programs and gates use it."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from memorization_index import MemorizationIndexError, cli
from memorization_index._version import __version__
from memorization_index.cli import main
from memorization_index.reference import Reference
from memorization_index.scores import SLICE_COLUMNS, VOLUME_COLUMNS
from PIL import Image

PACKAGE = Path(sys.modules["memorization_index"].__file__).parent
#: Field → type of every event (the contract with programs).
EVENTS = {
    "start": {"command": str, "version": str, "pid": int},
    "progress": {"stage": str, "done": int, "total": int, "unit": str, "seconds_left": (float, int, type(None))},
    "skipped": {"path": str, "reason": str},
    "warning": {"message": str},
    "error": {"message": str},
}


def worker(*arguments: object, **options) -> subprocess.Popen[bytes]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "memorization_index", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}, **{**pipes, **options})


def finished(process: subprocess.Popen[bytes], seconds: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out.decode(), err.decode()


def header(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines()[0].split(","))


# --------------------------------------------------------------------------------------------------------------------
# JSON lines


def assert_events_follow_the_contract(events: list[dict], command: str) -> None:
    assert events[0] == {"event": "start", "command": command, "version": __version__, "pid": os.getpid()}
    assert events[-1]["event"] == "done"
    for event in events[:-1]:
        fields = EVENTS[event["event"]]
        assert set(event) == {"event", *fields}
        for name, kind in fields.items():
            assert isinstance(event[name], kind), event
    progress = [e for e in events if e["event"] == "progress"]
    for stage in {e["stage"] for e in progress}:
        done = [e["done"] for e in progress if e["stage"] == stage]
        totals = {e["total"] for e in progress if e["stage"] == stage}
        assert done == sorted(done)
        assert totals == {done[-1]}, "a stage ends complete"
    assert all(e["seconds_left"] is None for e in progress if e["done"] == 0)
    assert all(e["seconds_left"] == 0 for e in progress if e["done"] == e["total"])


def test_json_events_of_build_and_score(training: Path, tmp_path: Path, command) -> None:
    result = command("build", training, "--out", tmp_path / "reference")
    assert (result.code, result.err) == (0, "")
    assert_events_follow_the_contract(result.events, "build")
    done = result.events[-1]
    assert set(done) == {"event", "command", "out", "counts", "seconds"}
    assert done["out"] == str(tmp_path / "reference")
    assert done["counts"]["subjects"] == 6

    result = command("score", tmp_path / "reference", training / "sub-03", "--out", tmp_path / "result")
    assert (result.code, result.err) == (0, "")
    assert_events_follow_the_contract(result.events, "score")
    done = result.events[-1]
    gates = {"fail_on", "cannot_tell", "not_examined"}
    assert set(done) == {"event", "command", "out", "counts", "verdicts", "copied_fraction", "seconds"} | gates
    assert done["verdicts"] == {"copy": 1, "suspicious": 0, "no evidence": 0, "uncalibrated": 0}
    assert (done["counts"]["volumes"], done["counts"]["slices"], done["counts"]["skipped"]) == (1, 6, 0)
    assert header(tmp_path / "result" / "slices.csv") == SLICE_COLUMNS
    assert header(tmp_path / "result" / "volumes.csv") == VOLUME_COLUMNS
    names = {
        "slices.csv",
        "volumes.csv",
        "alignments.csv",
        "inputs.csv",
        "agreement",
        "run.json",
        "report.html",
        "pictures.safetensors",
    }
    assert {p.name for p in (tmp_path / "result").iterdir()} == names


def test_json_stays_whole_with_names_of_any_language(tiny, tmp_path: Path) -> None:
    """Standard output of programs may be anything; what is written to it is ASCII."""
    phantoms.write(tmp_path / "头部 – Köpfe" / "1.nii.gz", phantoms.anatomy(1)[4:7])
    (tmp_path / "头部 – Köpfe" / "2.nii.gz").write_bytes(b"x")
    arguments = ["score", tiny.reference, tmp_path / "头部 – Köpfe", "--out", tmp_path / "out – 結果", "--json"]
    command = [sys.executable, "-m", "memorization_index", *map(str, arguments)]
    plain = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    run = subprocess.run(command, env=plain, capture_output=True, check=True)
    events = [json.loads(line) for line in run.stdout.decode("ascii").splitlines()]
    assert events[-1]["out"] == str(tmp_path / "out – 結果")
    assert [Path(e["path"]).name for e in events if e["event"] == "skipped"] == ["2.nii.gz"]


def test_reader_that_goes_away_ends_the_work_quietly(many_volumes: Path, tiny, tmp_path: Path) -> None:
    process = worker("score", tiny.reference, many_volumes, "--out", tmp_path / "out", "--json")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == b""
    process.stderr.close()
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------------------------
# Ending


@pytest.fixture(scope="module")
def many_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for subject in range(20):
        phantoms.write(folder / f"{subject:03d}.nii.gz", phantoms.anatomy(subject))
    for copy in range(20, 300):
        shutil.copy(folder / f"{copy % 20:03d}.nii.gz", folder / f"{copy:03d}.nii.gz")
    return folder


def wait_for(process: subprocess.Popen[bytes], text: bytes) -> None:
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"ended without {text!r}: {process.stderr.read().decode()}")


@pytest.mark.parametrize("command", ["build", "score"])
def test_watched_standard_input_ends_the_process(command: str, many_volumes: Path, tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = ["build", many_volumes] if command == "build" else ["score", tiny.reference, many_volumes]
    process = worker(*inputs, "--out", out, "--json", "--watch-stdin", stdin=subprocess.PIPE)
    wait_for(process, b'"done": 1')
    process.stdin.write(b"talk is no reason to end\n")
    process.stdin.flush()
    wait_for(process, b'"progress"')
    assert process.poll() is None
    started = time.monotonic()
    process.stdin.close()
    process.stdin = None
    code, printed, err = finished(process, 30)
    assert code == 130
    assert time.monotonic() - started < 10
    assert err == ""
    last = json.loads(printed.splitlines()[-1])
    assert last["event"] == "error"
    assert last["message"].startswith("Stopped;")
    # Nothing half-written: no reference; an empty folder for results; only whole units that a build goes on from.
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    whole = r"out" if command == "score" else r"\.out\.building(/(plan\.json|unit-\d{6}\.safetensors))?"
    assert all(re.fullmatch(whole, name) for name in left), left


def test_watched_standard_input_that_stays_open_does_no_harm(tiny, tmp_path: Path) -> None:
    """The process ends by itself, and cleanly, while its standard input is still open."""
    for _ in range(3):
        process = worker(
            "score", tiny.reference, tiny.training, "--out", tmp_path, "--json", "--watch-stdin", stdin=subprocess.PIPE
        )
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""
        assert json.loads(process.stdout.read().splitlines()[-1])["event"] == "done"
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_interrupt_by_the_user(many_volumes: Path, tiny, tmp_path: Path) -> None:
    # What runs in the background of a shell script ignores SIGINT and passes that on; at a terminal nobody does. A
    # handler of our own is not passed on: the worker begins with the default.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = worker("score", tiny.reference, many_volumes, "--out", tmp_path / "out", "--json")
    finally:
        signal.signal(signal.SIGINT, inherited)
    wait_for(process, b'"done": 1')
    process.send_signal(signal.SIGINT)
    code, printed, err = finished(process, 30)
    assert (code, err) == (130, "")
    assert json.loads(printed.splitlines()[-1])["message"].startswith("Stopped;")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------------------------
# For people


def test_plain_lines_where_no_terminal_is(tiny, tmp_path: Path) -> None:
    (tmp_path / "queries").mkdir()
    shutil.copy(tiny.training / "sub-01.nii.gz", tmp_path / "queries" / "one.nii.gz")
    (tmp_path / "queries" / "bad.nii.gz").write_bytes(b"x")
    code, out, err = finished(worker("score", tiny.reference, tmp_path / "queries", "--out", tmp_path / "out"))
    assert code == 0
    assert out == f"1 volume: 1 copy. Skipped: 1 file. Report: {tmp_path / 'out' / 'report.html'}\n"
    assert "\x1b" not in err
    assert "\r" not in err
    lines = err.splitlines()
    assert f"skipped {tmp_path / 'queries' / 'bad.nii.gz'}: " in err
    assert "comparing with the training set: 2 of 2 volumes" in lines
    assert "verifying: 3 of 3 slices" in lines


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_bars_on_a_terminal(tiny, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    process = worker("score", tiny.reference, tiny.training, "--out", tmp_path / "out", stderr=theirs)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert "3/3" in shown.decode()
    assert "9/9" in shown.decode()
    assert "3 volumes: 3 copy." in out


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


def test_preview_leaves_out_what_cannot_be_read(tiny, tmp_path: Path, capsys) -> None:
    shutil.copytree(tiny.training, tmp_path / "scans")
    whole = next(tiny.training.iterdir()).read_bytes()
    (tmp_path / "scans" / "cut.nii.gz").write_bytes(whole[:-100])
    (tmp_path / "scans" / "empty.nii.gz").write_bytes(b"")
    for name in ("text.nii.gz", "text.nrrd", "text.mha", "text.npy", "text.png", "text.dcm"):
        (tmp_path / "scans" / name).write_text("this is no scan, but a text that is long enough for any header" * 20)
    assert main(["preview", str(tmp_path / "scans")]) == 0
    printed = capsys.readouterr()
    assert "3 volumes of 3 subjects" in printed.out
    assert "skipped: 8 files" in printed.out
    assert "empty.nii.gz: is empty" in printed.err


def test_preview_and_build_leave_out_the_same_planes(tmp_path: Path, capsys) -> None:
    """The preview by headers alone; nothing is left to resume where nothing could be used."""
    thick = phantoms.sitk.GetImageFromArray(phantoms.anatomy(1)[:6])
    thick.SetSpacing((1, 1, 5))
    (tmp_path / "scans").mkdir()
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        phantoms.sitk.WriteImage(thick, str(tmp_path / "scans" / name))
    for command in (["preview"], ["build", "--out", str(tmp_path / "reference")]):
        main([*command, str(tmp_path / "scans"), "--plane", "coronal"])
        assert capsys.readouterr().err.count("was acquired in axial slices") >= 3
    assert not (tmp_path / ".reference.building").exists()


def test_preview_leaves_out_what_build_leaves_out(tiny, tmp_path: Path, command, capsys) -> None:
    """What headers tell: several volumes in one file, in every format that can hold them, and single images."""
    scans = tmp_path / "scans"
    shutil.copytree(tiny.training, scans)
    several = sitk.JoinSeries([phantoms.itk_image(phantoms.anatomy(number)[4:7]) for number in range(2)])
    for name in ("several.nii.gz", "several.nii", "several.nrrd", "several.mha"):
        sitk.WriteImage(several, str(scans / name))
    np.save(scans / "several.npy", np.zeros((2, 3, 48, 40), np.int16))
    np.save(scans / "image.npy", phantoms.anatomy(0)[5])
    Image.fromarray(phantoms.anatomy(1)[5].astype(np.uint8)).save(scans / "image.png")
    phantoms.write(scans / "flat.nii.gz", phantoms.anatomy(2)[5:6])
    preview = command("preview", scans)
    build = command("build", scans, "--out", tmp_path / "reference")
    assert build.of("done")[0]["counts"]["skipped"] == 8
    assert {e["path"]: e["reason"] for e in preview.of("skipped")} == {
        e["path"]: e["reason"] for e in build.of("skipped")
    }
    assert preview.of("done")[0]["counts"] == {"volumes": 3, "subjects": 3, "skipped": 8}


def test_python_tells_what_the_command_line_tells(tiny, tmp_path: Path, caplog) -> None:
    shutil.copytree(tiny.training, tmp_path / "scans")
    (tmp_path / "scans" / "broken.nii.gz").write_text("broken")
    reference = Reference.build(tmp_path / "scans", tmp_path / "reference")
    assert [r.message for r in caplog.records if r.message.startswith("skipped") and "broken.nii.gz" in r.message]
    assert repr(reference) == "<Reference of 3 subjects, 3 volumes, 9 slices>"
    assert main(["build", str(tmp_path / "scans"), "--out", str(tmp_path / "other")]) == 0
    assert Reference.open(tmp_path / "other").fingerprint == reference.fingerprint


def test_preview_says_what_build_would_take(tiny, tmp_path: Path, command, capsys) -> None:
    (tmp_path / "scans").mkdir()
    scan = next(tiny.training.iterdir()).read_bytes()
    for number in range(22):
        (tmp_path / "scans" / f"{number:02d}.nii.gz").write_bytes(scan)
    assert main(["preview", str(tmp_path / "scans"), "--plane", "axial"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == ("22 volumes of 22 subjects, each file counts as a person (22); plane: axial; skipped: 0 files")
    assert lines[1] == "By headers alone: build and score read the voxels, and may leave out more."
    assert lines[2] == "00.nii.gz: 1 volume"
    assert lines[22:] == ["… and 2 more (all with --json)", "slices of a volume:", "3: 22 volumes"]
    assert "22 volumes name no subject" in printed.err
    assert "copies are missed: name the subjects" in printed.err
    [done] = command("preview", tiny.training).of("done")
    assert done["plane"] == "axial"
    assert len(done["subjects"]) == 3
    assert [(v["slices"], len(v["files"])) for v in done["volumes"]] == [(3, 1)] * 3


def test_preview_names_the_files_that_are_joined(tmp_path: Path, capsys) -> None:
    for number in range(2):
        phantoms.write_dicom(tmp_path / f"series-{number}", phantoms.anatomy(number), f"P{number}", f"1.2.3.{number}")
    assert main(["preview", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 volumes of 2 subjects, taken from DICOM PatientID (2); plane: axial; skipped: 0 files"
    assert lines[4:] == [
        "slices of a volume:",
        "12: 2 volumes",
        "joined from several files: 2 volumes",
        "series-0/001.dcm: 12 files, 012.dcm to 001.dcm",
        "series-1/001.dcm: 12 files, 012.dcm to 001.dcm",
    ]


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
