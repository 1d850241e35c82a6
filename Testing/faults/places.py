"""Full and read-only disks, several writers, files that change: ``python Testing/faults/places.py --out FOLDER``.

Each case runs the commands of ``kill.py`` where something is wrong, many times, and judges what is left: what stood
before or what is new, whole; a sentence and exit code 2; and that the same command works once the cause is gone.
Disks are small tmpfs mounts; where those are not allowed (they need root) files are limited in size instead.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import kill
import numpy as np
import phantoms
from memorization_index import durable, volumes
from memorization_index.errors import MemorizationIndexError

#: Commands that are tried; all of ``kill.py``.
COMMANDS = kill.SCENARIOS
#: Bytes that a disk is larger than what stands on it, or that a file may have.
SIZES = (4_096, 65_536, 262_144, 2_097_152)
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in and for places.json")
    parser.add_argument("--rounds", type=int, default=10, help="of each command with two writers (default 10)")
    parser.add_argument("--readings", type=int, default=2000, help="of a file that changes (default 2000)")
    options = parser.parse_args()
    kill.encoding._UNIT_FILES = 1
    folder = options.out.absolute()
    kill.common(folder)
    done = folder / "places.json"
    record: dict = {"command": "python Testing/faults/places.py " + " ".join(sys.argv[1:]), "cases": {}}
    if done.exists():  # of a run that was stopped
        record = json.loads(done.read_text())
    cases: dict[str, Callable[[], dict]] = {
        "file rewritten while it is read": lambda: changing_file(folder, options.readings),
        "two commands for one folder": lambda: two_writers(folder, options.rounds),
        "target that may not be written": lambda: read_only(folder),
        "full disk": lambda: full_disk(folder),
    }
    for name, case in cases.items():
        if name in record["cases"]:
            continue
        record["cases"][name] = case()
        done.write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record["cases"][name]), flush=True)
    return sum(len(case["findings"]) for case in record["cases"].values())


# --------------------------------------------------------------------------------------------------------------------
# Full


def full_disk(folder: Path) -> dict:
    """Every command on disks from too small to large enough."""
    seen: Counter[str] = Counter()
    findings: list[str] = []
    how = "RLIMIT_FSIZE"
    for name, scenario in COMMANDS.items():
        before, after, _ = kill.known(scenario, folder / "stage")
        for size in SIZES:
            with small_disk(folder / "stage") as resized:
                how = "tmpfs" if resized else how
                stage = folder / "stage"
                kill.fresh(scenario, stage)
                if resized:
                    resized(used(stage) + size)
                code, said = run(scenario.arguments(stage), folder, None if resized else size)
                state = kill.state_of(scenario, stage / "out", {before: "old", after: "new"})
                seen["wrote all" if code == 0 else f"refused; {state} stands"] += 1
                if not sound(code, said, state, before):
                    findings.append(f"{name}, {size} bytes: exit code {code}, {state}: {said[-300:]}")
                if resized:
                    resized(64 << 20)
                expected = scenario.again if state == "new" else 0
                code, said = run(scenario.arguments(stage), folder)
                state = kill.state_of(scenario, stage / "out", {before: "old", after: "new"})
                if code != expected or state != "new":
                    findings.append(f"{name}, {size} bytes, then room: exit code {code}, {state}: {said[-300:]}")
    return {"how": how, "runs": sum(seen.values()), "seen": dict(seen), "findings": findings}


def sound(code: int, said: str, state: str, before: str) -> bool:
    """Whether a command that met a fault either did all, or nothing and said so."""
    if code == 0:
        return state == "new"
    unharmed = state == "old" if before else state == "nothing yet"
    return code == 2 and unharmed and "Traceback" not in said and "expected" in said


def used(place: Path) -> int:
    """Bytes of files, in pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in place.rglob("*") if path.is_file())


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[int], None] | None]:
    """A tmpfs mounted at ``place`` and a function that changes its size; None where mounting is not allowed."""
    place.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, check=False
    )

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)

    try:
        yield None if mounted.returncode else resize
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", place], check=True)


def run(arguments: list[str], folder: Path, limit: int | None = None, plain: bool = False) -> tuple[int, str]:
    """Exit code of a command and what it printed; with files of at most ``limit`` bytes; ``plain``: as an owner whom
    permissions bind, which they do not bind root."""
    log = folder / "printed"

    def prepare() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH) if plain and os.geteuid() == 0 else ():
            assert ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0

    if limit is None and not plain:
        return kill.wait(kill.started(arguments, log)), log.read_text(errors="replace")
    words = [sys.executable, "-m", "memorization_index", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(kill.ROOT / "MemorizationIndex")}
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=prepare, env=environment, check=False)
    return done.returncode, done.stdout + done.stderr


# --------------------------------------------------------------------------------------------------------------------
# Read-only


def read_only(folder: Path) -> dict:
    """Every command into a folder without permission to write, and on a disk that is mounted read-only."""
    seen: Counter[str] = Counter()
    findings: list[str] = []
    for name, scenario in COMMANDS.items():
        before, after, _ = kill.known(scenario, folder / "stage")
        for mounted in (False, True):
            with small_disk(folder / "stage") as resized:
                if mounted and resized is None:
                    continue
                stage = folder / "stage"
                kill.fresh(scenario, stage)
                places = [place for place in (stage / "out", stage) if place.exists()]
                if mounted:
                    subprocess.run(["mount", "-o", "remount,ro", folder / "stage"], check=True)
                else:
                    for place in places:
                        place.chmod(0o500)
                code, said = run(scenario.arguments(stage), folder, plain=True)
                state = kill.state_of(scenario, stage / "out", {before: "old", after: "new"})
                seen[f"{'mount' if mounted else 'permissions'}: {'refused' if code else 'wrote'}"] += 1
                if code == 0 or not sound(code, said, state, before):
                    findings.append(f"{name}: exit code {code}, {state}: {said[-300:]}")
                if mounted:
                    subprocess.run(["mount", "-o", "remount,rw", folder / "stage"], check=True)
                else:
                    for place in places:
                        place.chmod(0o700)
    return {"how": "mode 0500, mount -o ro", "runs": sum(seen.values()), "seen": dict(seen), "findings": findings}


# --------------------------------------------------------------------------------------------------------------------
# Several at once


def two_writers(folder: Path, rounds: int) -> dict:
    """Two of the same command, the second begun at a random moment of the first."""
    seen: Counter[str] = Counter()
    findings: list[str] = []
    random = Random(0)
    for name, scenario in COMMANDS.items():
        before, after, seconds = kill.known(scenario, folder / "stage")
        for _ in range(rounds):
            stage = folder / "stage"
            kill.fresh(scenario, stage)
            logs = folder / "first", folder / "second"
            first = kill.started(scenario.arguments(stage), logs[0])
            ended = kill.worked(first, random.uniform(0, seconds))
            second = kill.started(scenario.arguments(stage), logs[1])
            codes = kill.wait(first) if ended is None else ended, kill.wait(second)
            state = kill.state_of(scenario, stage / "out", {before: "old", after: "new"})
            left = [p.name for p in stage.iterdir() if p.name != "out"]
            said = [log.read_text(errors="replace")[-300:] for log in logs]
            seen["one worked, one was refused" if 2 in codes else "one worked after the other"] += 1
            refused = [text for code, text in zip(codes, said, strict=True) if code == 2]
            if state != "new" or not set(codes) <= {0, 2} or 0 not in codes or left or "Traceback" in "".join(said):
                findings.append(f"{name}: exit codes {codes}, {state}, left {left}: {said}")
            elif any("expected" not in text for text in refused):
                findings.append(f"{name}: no sentence: {refused}")
    return {"how": "two processes", "runs": sum(seen.values()), "seen": dict(seen), "findings": findings}


_WRITER = """
import sys, time, random
path, log, contents = sys.argv[1], open(sys.argv[2], "w", buffering=1), [open(n, "rb").read() for n in sys.argv[3:]]
chance, now = random.Random(0), time.monotonic_ns
while True:
    for version, content in enumerate(contents):
        with open(path, "r+b", buffering=0) as stream:
            at = chance.randrange(len(content))
            begun = now()
            stream.write(content[:at])
            paused = now()
            time.sleep(chance.choice((0, 0.0005, 0.002, 0.01, 0.1)))
            resumed = now()
            stream.write(content[at:])
        log.write(f"{version} {at} {begun} {paused} {resumed} {now()}\\n")
        time.sleep(chance.choice((0, 0.002, 0.01, 0.3)))
"""


@dataclass(frozen=True)
class Writing:
    """How a version was written over the other one: its first ``at`` bytes, then the rest (times in nanoseconds)."""

    version: int
    at: int
    begun: int
    paused: int
    resumed: int
    ended: int


def changing_file(folder: Path, readings: int) -> dict:
    """A file that another program rewrites all the time is read as it was at one moment, or skipped.

    The other program notes when it wrote what, so that it is known what the file held at any moment.
    """
    seen: Counter[str] = Counter()
    findings: list[str] = []
    for suffix in (".nii", ".nrrd", ".npy"):
        paths = [folder / f"version-{number}{suffix}" for number in (1, 2)]
        for number, path in enumerate(paths):
            content = phantoms.anatomy(number)
            np.save(path, content) if suffix == ".npy" else phantoms.write(path, content)
        versions = [path.read_bytes() for path in paths]
        accepted, writings = read_while_written(folder / f"shared{suffix}", paths, readings)
        seen["skipped"] += readings - len(accepted)
        for begun, ended, voxels in accepted:
            said = judged(begun, ended, voxels, writings, versions)
            seen[said] += 1
            if said.startswith("wrong"):
                findings.append(f"{suffix}: {said}")
    return {"how": "rewritten in place", "runs": sum(seen.values()), "seen": dict(seen), "findings": findings[:20]}


def read_while_written(shared: Path, paths: list[Path], readings: int) -> tuple[list[tuple], list[Writing]]:
    """What was read (begin, end, voxels) of a file that turns from one of ``paths`` into another, and its writings."""
    log, random, moments, accepted = shared.with_suffix(".log"), Random(0), [], []
    log.unlink(missing_ok=True)
    shutil.copyfile(paths[-1], shared)
    inner = volumes._read

    def noting(files: tuple[Path, ...]) -> volumes.Volume:
        begun = time.monotonic_ns()
        volume = inner(files)
        moments.append((begun, time.monotonic_ns()))
        return volume

    volumes._read = noting
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, shared, log, *paths])
    try:
        while len(noted(log)) < 2:
            time.sleep(0.01)
        for _ in range(readings):
            time.sleep(random.uniform(0, 0.02))
            with suppress(MemorizationIndexError):
                voxels = volumes.read_volume(shared).voxels
                accepted.append((*moments[-1], voxels))
        done = time.monotonic_ns()
        while noted(log)[-1].begun < done:
            time.sleep(0.01)
    finally:
        volumes._read = inner
        writer.kill()
        writer.wait()
    return accepted, noted(log)


def noted(log: Path) -> list[Writing]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [Writing(*map(int, line.split())) for line in lines if len(line.split()) == 6]


def judged(begun: int, ended: int, voxels: np.ndarray, writings: list[Writing], versions: list[bytes]) -> str:
    """What was read between two moments, given everything that was written."""
    held = []  # what the file held after each write, when that write began and when it ended
    for writing in writings:
        new, old = versions[writing.version], versions[1 - writing.version]
        half = new[: writing.at] + old[writing.at :]
        held.append((writing.begun, writing.paused, "half-written at rest, read as it lay there", half))
        held.append((writing.resumed, writing.ended, "read whole", new))
    last = max(i for i, (start, *_) in enumerate(held) if start <= begun)
    first = last if held[last][1] <= begun else max(last - 1, 0)
    for start, _, said, content in held[first:]:
        if start <= ended and np.array_equal(voxels, stored(content)):
            return said
    writing_for = (begun - held[last][0]) / 1e9
    if held[last][1] > begun and writing_for >= durable.TICK:
        return "within one write of the other program that had begun long before: leaves no trace"
    return f"wrong: read for {(ended - begun) / 1e6:.1f} ms, {1000 * writing_for:.1f} ms after a write began"


def stored(content: bytes) -> np.ndarray:
    """The voxels that an uncompressed file holds: its last bytes."""
    size = 2 * int(np.prod(phantoms.SHAPE))
    return np.frombuffer(content[-size:], np.int16).reshape(phantoms.SHAPE).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
