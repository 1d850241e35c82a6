"""The command line as a process: JSON lines for programs, lines and bars for people, and how it ends."""

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

import phantoms
import pytest
from memorization_index import cli
from memorization_index._version import __version__
from memorization_index.progress import Progress, Stopped
from memorization_index.scores import SLICE_COLUMNS, VOLUME_COLUMNS

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


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_an_interrupt_also_stops_what_works_in_threads() -> None:
    progress, before = Progress(), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), cli._stopped_by_interrupt(progress):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):  # so does every other thread at its next step
            progress.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


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
