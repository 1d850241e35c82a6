"""One writer at a time, nothing half-written: locks, moves that can be finished later, full and read-only disks."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import phantoms
import pytest
from memorization_index.cli import main
from memorization_index.durable import TICK, exclusive, finish, prepared, unchanging
from memorization_index.errors import MemorizationIndexError

PACKAGE = Path(sys.modules["memorization_index"].__file__).parent
_HOLD = """
import sys, time
from pathlib import Path
from memorization_index.durable import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holding(place: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    process = subprocess.Popen([sys.executable, "-c", _HOLD, place], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "held\n"
    return process


def test_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    with holding(tmp_path / "reference") as process:
        expected = rf"reference: is being written by another process \(number {process.pid}\); expected"
        with pytest.raises(MemorizationIndexError, match=expected), exclusive(tmp_path / "reference"):
            pass
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_lock_of_a_killed_writer_is_taken_over(tmp_path: Path) -> None:
    with holding(tmp_path / "reference") as process:
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()), "the lock file is left"
    with exclusive(tmp_path / "reference"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), exclusive(tmp_path / "reference"):
            raise KeyError


def write(folder: Path, files: dict[str, str]) -> None:
    with prepared(folder) as new:
        for name, text in files.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_new_files_take_the_place_of_old_ones_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, {"a.csv": "1", "maps/0.nrrd": "1", "maps/1.nrrd": "1"})
    write(tmp_path, {"a.csv": "2", "maps/0.nrrd": "2"})
    assert contents(tmp_path) == {"notes.txt": "mine", "a.csv": "2", "maps/0.nrrd": "2"}


def test_error_while_writing_leaves_the_old_files(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "1", "b.csv": "1"})

    def fail(new: Path) -> None:
        (new / "a.csv").write_text("2")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), prepared(tmp_path) as new:
        fail(new)
    assert contents(tmp_path) == {"a.csv": "1", "b.csv": "1"}


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_moving_that_was_interrupted_is_finished(tmp_path: Path, monkeypatch, moved: int) -> None:
    """Killed after the ``moved``-th renaming: what comes next sees the old files, or the new ones, never both."""
    write(tmp_path, {"a.csv": "1", "b.csv": "1"})
    replace, done = os.replace, 0

    def dying(*names) -> None:
        nonlocal done
        if done == moved:
            raise KeyboardInterrupt
        done += 1
        replace(*names)

    monkeypatch.setattr(os, "replace", dying)
    if moved < 3:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, {"a.csv": "2", "b.csv": "2"})
    else:
        write(tmp_path, {"a.csv": "2", "b.csv": "2"})
    monkeypatch.undo()
    finish(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(("a.csv", "b.csv"), "1" if moved == 0 else "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").mkdir()
    write(tmp_path, {"a.csv": "1"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


# --------------------------------------------------------------------------------------------------------------------
# Commands


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["build", "score"])
def test_second_command_for_one_folder_is_refused(name: str, tiny, tmp_path: Path, command) -> None:
    out = tmp_path / "out"
    if name == "build":
        arguments, held = ("build", tiny.training, "--out", out), tmp_path / ".out.building"
    else:
        arguments, held = ("score", tiny.reference, tiny.training, "--out", out), out / "run"
    with holding(held) as process:
        result = command(*arguments)
        process.kill()
    assert result.code == 2
    assert "is being written by another process" in result.events[-1]["message"]
    assert command(*arguments).code == 0
    assert not [p for p in (*tmp_path.iterdir(), *out.iterdir()) if p.name.endswith(".lock")]


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("name", ["build", "score"])
def test_full_disk_leaves_what_was_there(name: str, tiny, tmp_path: Path, command) -> None:
    """A limit on the size of files makes writing fail as a full disk does; in a process of its own."""
    out = tmp_path / "out"
    if name == "build":
        shutil.copytree(tiny.reference, out)
        arguments = ["build", str(tiny.training), "--out", str(out), "--seed", "5"]
    else:
        arguments = ["score", str(tiny.reference), str(tiny.training), "--out", str(out)]
        assert command(*arguments).code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    program = (
        "import resource, sys; from memorization_index.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000)); sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    run = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "expected a readable and writable place." in done.stderr
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before
    assert command(*arguments).code == 0


def bound_by_permissions() -> None:
    """Give up what lets root write where permissions forbid it (CI runs as root)."""
    for capability in (1, 2) if os.geteuid() == 0 else ():  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="gives up capabilities of Linux")
@pytest.mark.parametrize("name", ["build", "build again", "extend", "score", "score again"])
def test_read_only_folder_is_refused_and_left_as_it_was(name: str, tiny, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    out = closed / "out"
    if name in ("build again", "extend"):
        shutil.copytree(tiny.reference, out)
    elif name == "score again":
        assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(out)]) == 0
        out.chmod(0o500)
    arguments = {
        "build": ["build", tiny.training, "--out", out],
        "extend": ["extend", out, phantoms.write(tmp_path / "new.nii.gz", phantoms.anatomy(9)[4:7])],
        "score": ["score", tiny.reference, tiny.training, "--out", out],
    }[name.split(maxsplit=1)[0]]
    before = {p.name: p.read_bytes() for p in closed.rglob("*") if p.is_file()}
    closed.chmod(0o500)
    run = [sys.executable, "-m", "memorization_index", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    try:
        done = subprocess.run(
            run, capture_output=True, text=True, env=environment, preexec_fn=bound_by_permissions, check=False
        )
    finally:
        closed.chmod(0o700)
        if out.exists():
            out.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert str(closed) in done.stderr.splitlines()[-1]
    assert re.search(r"expected a (readable and )?writable", done.stderr)
    assert {p.name: p.read_bytes() for p in closed.rglob("*") if p.is_file()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="gives up capabilities of Linux")
def test_reference_and_images_that_may_only_be_read_are_scored(tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.reference, tmp_path / "reference")
    (tmp_path / "reference").chmod(0o500)
    arguments = ["score", tmp_path / "reference", tiny.training, "--out", tmp_path / "out"]
    run = [sys.executable, "-m", "memorization_index", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        run, capture_output=True, text=True, env=environment, preexec_fn=bound_by_permissions, check=False
    )
    (tmp_path / "reference").chmod(0o700)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("made_before", [False, True])
def test_folder_for_results_is_removed_after_an_error_only_where_it_was_made(
    made_before: bool, tiny, tmp_path: Path, command
) -> None:
    out = tmp_path / "out"
    if made_before:
        out.mkdir()
    (tmp_path / "empty").mkdir()
    assert command("score", tiny.reference, tmp_path / "empty", "--out", out).code == 2
    assert out.exists() == made_before


def test_file_that_was_just_written_is_read_after_the_clock_has_ticked(tmp_path: Path) -> None:
    """A second change within the same tick leaves size and time as they were (seen by Testing/faults/places.py)."""
    path = tmp_path / "scan.nii"
    path.write_bytes(b"old")
    written = path.stat().st_mtime

    def change() -> None:
        with unchanging([path]):
            assert time.time() - written >= TICK / 2
            path.write_bytes(b"new")

    with pytest.raises(MemorizationIndexError, match="changed while it was read"):
        change()


def test_change_while_the_clock_ticks_is_noticed(tmp_path: Path, monkeypatch) -> None:
    """Another program that is still writing does not stop because we wait (seen by Testing/faults/places.py)."""
    path = tmp_path / "scan.nii"
    path.write_bytes(b"half")
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(b"half and more"))
    with pytest.raises(MemorizationIndexError, match="changed while it was read"), unchanging([path]):
        pass


def test_what_is_shared_can_be_read_by_others(tiny, tmp_path: Path, command) -> None:
    """Files have the mode that the umask gives, whatever library writes them."""
    assert command("score", tiny.reference, tiny.training, "--out", tmp_path / "out").code == 0
    (tmp_path / "probe").touch()
    usual = (tmp_path / "probe").stat().st_mode
    for path in (*tiny.reference.iterdir(), *(p for p in (tmp_path / "out").rglob("*") if p.is_file())):
        assert path.stat().st_mode == usual, path
