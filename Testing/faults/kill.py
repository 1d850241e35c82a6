"""Kill commands (SIGKILL) at random moments and look at what is left: ``python Testing/faults/kill.py --out FOLDER``.

Each command is a ``Scenario``; another one is another entry of ``SCENARIOS``. A scenario is run again and again in the
same place until a run comes to its end, which must give the same bytes as one that was never killed; then it starts
anew. After every kill the place is looked at: it must hold what was there before or what is new, whole. Units of work
that were finished before a kill must be there, untouched, after the next.

Commands run in processes forked from this one, so that a moment is a moment of work and not of importing.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing" / "library")]

import phantoms  # noqa: E402
import SimpleITK  # noqa: E402, F401
from memorization_index import MemorizationIndexError, Reference, Scores, encoding, scoring  # noqa: E402, F401
from memorization_index.cli import main as command  # noqa: E402


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    ``prepare(stage)`` makes what stands before; ``arguments(stage)`` is the command, which writes to ``stage / "out"``;
    ``content(out)`` identifies what a reader gets there, or raises :class:`MemorizationIndexError`.
    """

    prepare: Callable[[Path], None]
    arguments: Callable[[Path], list[str]]
    content: Callable[[Path], str]


def reference_content(out: Path) -> str:
    """The checksums of a whole reference."""
    return Reference.open(out).fingerprint


def result_content(out: Path) -> str:
    """The tables of a whole result (times differ from run to run)."""
    scores = Scores.read(out)
    assert scores.run["counts"]["slices"] == len(scores.slices["volume"])
    assert (out / "report.html").read_text(encoding="utf-8").endswith("</html>\n")
    names = ("slices.csv", "volumes.csv", "alignments.csv")
    return hashlib.sha256(b"".join((out / name).read_bytes() for name in names)).hexdigest()


def _training(stage: Path) -> Path:
    return stage.parent / "training"


def _reference(stage: Path) -> Path:
    return stage.parent / "reference"


def _nothing(stage: Path) -> None:
    """Nothing stands before."""


def _older_reference(stage: Path) -> None:
    shutil.copytree(stage.parent / "older", stage / "out")


def _older_result(stage: Path) -> None:
    shutil.copytree(stage.parent / "result", stage / "out")


def _build(stage: Path) -> list[str]:
    return ["build", str(_training(stage)), "--out", str(stage / "out"), "--seed", "7"]


def _score(stage: Path) -> list[str]:
    return ["score", str(_reference(stage)), str(_training(stage)), "--out", str(stage / "out")]


SCENARIOS = {
    "build, new": Scenario(_nothing, _build, reference_content),
    "build over an older reference": Scenario(_older_reference, _build, reference_content),
    "score, new": Scenario(_nothing, _score, result_content),
    "score over an older result": Scenario(_older_result, _score, result_content),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in and for kill.json")
    parser.add_argument("--kills", type=int, default=50, help="of each scenario (default 50)")
    parser.add_argument("--scenarios", default=";".join(SCENARIOS), help="names with semicolons (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    encoding._UNIT_FILES = 1  # several units in a training set that is quick to build
    folder = options.out.absolute()
    _common(folder)
    record = {
        "command": "python Testing/faults/kill.py " + " ".join(sys.argv[1:]),
        "seed": options.seed,
        "scenarios": {},
    }
    for name in options.scenarios.split(";"):
        record["scenarios"][name] = torment(SCENARIOS[name], folder / "stage", options.kills, options.seed)
        (folder / "kill.json").write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record["scenarios"][name]), flush=True)
    return sum(len(entry["findings"]) for entry in record["scenarios"].values())


def _common(folder: Path) -> None:
    """A training set, a reference of it, and a result of other images.

    All scans are one person's: whitenings of folds, which take most of a build's time, write nothing.
    """
    if (folder / "result").exists():
        return
    for number in range(4):
        phantoms.write(folder / "training" / f"sub-1_run-{number}.nii.gz", phantoms.anatomy(number)[5:7])
    for subject in range(20, 22):
        phantoms.write(folder / "others" / f"{subject}.nii.gz", phantoms.anatomy(subject)[5:7])
    assert _wait(_started(["build", str(folder / "training"), "--out", str(folder / "reference")])) == 0
    assert _wait(_started(["build", str(folder / "others"), "--out", str(folder / "older")])) == 0
    arguments = ["score", str(folder / "reference"), str(folder / "others"), "--out", str(folder / "result")]
    assert _wait(_started(arguments)) == 0


def torment(scenario: Scenario, stage: Path, kills: int, seed: int) -> dict:
    """Kill a command ``kills`` times; what was seen."""
    random = Random(seed)
    before, after, seconds = _known(scenario, stage)
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    kept = 0
    killed = 0
    while killed < kills:
        _fresh(scenario, stage)
        units: dict[str, int] = {}
        while True:
            moment = random.uniform(0, 1.1 * seconds)
            code = _killed_at(scenario.arguments(stage), moment)
            killed += code is None
            state = _state(scenario, stage / "out", {before: "old", after: "new"})
            now = _units(stage)
            lost = [name for name, time_ in units.items() if now.get(name) != time_ and state != "new"]
            kept += len(units) if not lost else 0
            units = now
            outcomes[state if code is None else "came to its end"] += 1
            if lost or state.startswith("broken") or code not in (None, 0):
                findings.append(f"killed after {moment:.3f} s: {state}, lost {lost}, exit code {code}")
            if code == 0 or findings[20:]:
                break
            if killed >= kills:
                code = _wait(_started(scenario.arguments(stage)))
                break
        if _state(scenario, stage / "out", {before: "old", after: "new"}) != "new" or code != 0:
            findings.append("the run that came to its end did not give what an undisturbed one gives")
        left = sorted(p.name for p in stage.iterdir() if p.name != "out")
        if left:
            findings.append(f"left behind: {left}")
    return {
        "kills": killed, "seconds_undisturbed": round(seconds, 2), "seen_after_kill": dict(outcomes),
        "finished_units_kept": kept, "findings": findings,
    }  # fmt: skip


def _known(scenario: Scenario, stage: Path) -> tuple[str, str, float]:
    """What stands before and after an undisturbed run, and how long that takes (median of three)."""
    seconds = []
    for _ in range(3):
        _fresh(scenario, stage)
        before = scenario.content(stage / "out") if (stage / "out").exists() else ""
        started = time.monotonic()
        assert _wait(_started(scenario.arguments(stage))) == 0
        seconds.append(time.monotonic() - started)
    after = scenario.content(stage / "out")
    assert before != after, "what stands before can be told from what is new"
    return before, after, statistics.median(seconds)


def _fresh(scenario: Scenario, stage: Path) -> None:
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    scenario.prepare(stage)


def _state(scenario: Scenario, out: Path, known: dict[str, str]) -> str:
    """``old``, ``new``, ``nothing yet``, ``moved aside`` (the next run brings it back), or what is broken."""
    visible = [p for p in out.iterdir() if not p.name.startswith(".")] if out.exists() else []
    if not visible and not (out / ".complete").exists():
        return "moved aside" if any(out.parent.glob(f".{out.name}.old-*")) else "nothing yet"
    try:
        return known.get(scenario.content(out), "broken: other content")
    except (MemorizationIndexError, AssertionError) as error:
        return f"broken: {error}"


def _units(stage: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in stage.glob(".*.building/*.safetensors")}


def _started(arguments: list[str]) -> int:
    """Run a command in a forked process; its number."""
    process = os.fork()
    if process:
        return process
    code = 70
    with contextlib.suppress(BaseException):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = command(arguments)
    os._exit(code)


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _killed_at(arguments: list[str], moment: float) -> int | None:
    """Kill a command after ``moment`` seconds; None, or its exit code where it came to its end before."""
    process = _started(arguments)
    time.sleep(moment)
    os.kill(process, signal.SIGKILL)
    code = _wait(process)
    return None if code == -signal.SIGKILL else code


if __name__ == "__main__":
    sys.exit(main())
