"""Kill commands (SIGKILL) at random moments and look at what is left: ``python Testing/faults/kill.py --out FOLDER``.

Each command is a ``Scenario``; another one is another entry of ``SCENARIOS``. A scenario is run again and again in the
same place until a run comes to its end, which must give the same bytes as one that was never killed; then it starts
anew. After every kill the place is looked at: it must hold what was there before or what is new, whole. Units of work
that were finished before a kill must be there, untouched, after the next.

Commands run in processes forked from this one, which has imported what they import; moments are drawn from the
processor time of an undisturbed run. So a moment is one of work, on a busy machine as well. Linux only.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import re
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

_WORKSPACE = re.compile(r"/\.[^/]+\.(building$|extending/)")


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    ``prepare(stage)`` makes what stands before; ``arguments(stage)`` is the command, which writes to ``stage / "out"``;
    ``content(out)`` identifies what a reader gets there, or raises :class:`MemorizationIndexError`. ``again`` is the
    exit code of the command where its result stands already.
    """

    prepare: Callable[[Path], None]
    arguments: Callable[[Path], list[str]]
    content: Callable[[Path], str]
    again: int = 0


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


def _same_reference(stage: Path) -> None:
    shutil.copytree(_reference(stage), stage / "out")


def _build(stage: Path) -> list[str]:
    return ["build", str(_training(stage)), "--out", str(stage / "out"), "--seed", "7"]


def _score(stage: Path) -> list[str]:
    return ["score", str(_reference(stage)), str(_training(stage)), "--out", str(stage / "out")]


def _extend(stage: Path) -> list[str]:
    return ["extend", str(_reference(stage)), str(stage.parent / "more"), "--out", str(stage / "out")]


def _extend_in_place(stage: Path) -> list[str]:
    return ["extend", str(stage / "out"), str(stage.parent / "more")]


SCENARIOS = {
    "build, new": Scenario(_nothing, _build, reference_content),
    "build over an older reference": Scenario(_older_reference, _build, reference_content),
    "extend, new": Scenario(_nothing, _extend, reference_content),
    "extend over an older reference": Scenario(_older_reference, _extend, reference_content),
    "extend in place": Scenario(_same_reference, _extend_in_place, reference_content, again=2),  # nothing is new then
    "score, new": Scenario(_nothing, _score, result_content),
    "score over an older result": Scenario(_older_result, _score, result_content),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in and for kill.json")
    parser.add_argument("--kills", type=int, default=60, help="of each scenario (default 60)")
    parser.add_argument("--scenarios", default=";".join(SCENARIOS), help="names with semicolons (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    encoding._UNIT_FILES = 1  # several units in a training set that is quick to build
    folder = options.out.absolute()
    common(folder)
    done = folder / "kill.json"
    record: dict = json.loads(done.read_text()) if done.exists() else {}
    if record.get("seed") != options.seed:
        command_line = "python Testing/faults/kill.py " + " ".join(sys.argv[1:])
        record = {"command": command_line, "seed": options.seed, "scenarios": {}}
    for name in options.scenarios.split(";"):
        if name in record["scenarios"]:  # of a run that was stopped
            continue
        record["scenarios"][name] = torment(SCENARIOS[name], folder / "stage", options.kills, options.seed)
        done.write_text(json.dumps(record, indent=1) + "\n")
        print(name, json.dumps(record["scenarios"][name]), flush=True)
    return sum(len(entry["findings"]) for entry in record["scenarios"].values())


def common(folder: Path) -> None:
    """A training set, a reference of it, and a result of other images; and everything imported that commands import.

    All scans are one person's: whitenings of folds, which take most of a build's time, write nothing.
    """
    if not (folder / "result").exists():
        _make_common(folder)
    arguments = ["extend", str(folder / "reference"), str(folder / "more"), "--out", str(folder / "extended")]
    assert wait(started(arguments, modules=folder / "modules")) == 0
    arguments = ["score", str(folder / "reference"), str(folder / "others"), "--out", str(folder / "scored")]
    assert wait(started(arguments, modules=folder / "modules.score")) == 0
    for name in sorted({*(folder / "modules").read_text().split(), *(folder / "modules.score").read_text().split()}):
        with contextlib.suppress(ImportError):  # parts of extension modules, which those import
            importlib.import_module(name)


def _make_common(folder: Path) -> None:
    for number in range(4):
        phantoms.write(folder / "training" / f"sub-1_run-{number}.nii.gz", phantoms.anatomy(number)[5:7])
    for number in range(4, 7):
        phantoms.write(folder / "more" / f"sub-1_run-{number}.nii.gz", phantoms.anatomy(number)[5:7])
    for subject in range(20, 22):
        phantoms.write(folder / "others" / f"{subject}.nii.gz", phantoms.anatomy(subject)[5:7])
    assert wait(started(["build", str(folder / "training"), "--out", str(folder / "reference")])) == 0
    assert wait(started(["build", str(folder / "others"), "--out", str(folder / "older")])) == 0
    arguments = ["score", str(folder / "reference"), str(folder / "others"), "--out", str(folder / "result")]
    assert wait(started(arguments)) == 0


def torment(scenario: Scenario, stage: Path, kills: int, seed: int) -> dict:
    """Kill a command ``kills`` times; what was seen."""
    random = Random(seed)
    before, after, seconds = known(scenario, stage)
    killed_at: list[float] = []
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    kept = 0
    killed = 0
    while killed < kills:
        fresh(scenario, stage)
        units: dict[str, int] = {}
        state = ""
        while True:
            expected = scenario.again if state == "new" else 0
            moment = random.uniform(0, 1.1 * seconds)
            code = _killed_at(scenario.arguments(stage), moment)
            killed += code is None
            killed_at += [moment] if code is None else []
            state = state_of(scenario, stage / "out", {before: "old", after: "new"})
            now = _units(stage)
            lost = [name for name, time_ in units.items() if now.get(name) != time_ and state != "new"]
            kept += len(units) if not lost else 0
            units = now
            outcomes[state if code is None else "came to its end"] += 1
            if lost or state.startswith("broken") or code not in (None, expected):
                findings.append(f"killed after {moment:.3f} s: {state}, lost {lost}, exit code {code}")
            if code == expected or findings[20:]:
                break
            if killed >= kills:
                expected = scenario.again if state == "new" else 0
                code = wait(started(scenario.arguments(stage)))
                break
        if state_of(scenario, stage / "out", {before: "old", after: "new"}) != "new" or code != expected:
            findings.append("the run that came to its end did not give what an undisturbed one gives")
        left = sorted(p.name for p in stage.iterdir() if p.name != "out")
        if left:
            findings.append(f"left behind: {left}")
    return {
        "kills": killed, "processor_seconds_undisturbed": round(seconds, 2),
        "killed_at": [round(moment, 2) for moment in statistics.quantiles(killed_at, n=4)],
        "seen_after_kill": dict(outcomes), "finished_units_kept": kept, "findings": findings,
    }  # fmt: skip


def known(scenario: Scenario, stage: Path) -> tuple[str, str, float]:
    """What stands before and after an undisturbed run, and its processor time in seconds (median of three)."""
    seconds = []
    for _ in range(3):
        fresh(scenario, stage)
        before = scenario.content(stage / "out") if (stage / "out").exists() else ""
        _, status, usage = os.wait4(started(scenario.arguments(stage)), 0)
        assert status == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    after = scenario.content(stage / "out")
    assert before != after, "what stands before can be told from what is new"
    return before, after, statistics.median(seconds)


def fresh(scenario: Scenario, stage: Path) -> None:
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(exist_ok=True)  # where a disk is mounted it cannot go
    scenario.prepare(stage)


def state_of(scenario: Scenario, out: Path, known: dict[str, str]) -> str:
    """``old``, ``new``, ``nothing yet``, ``moved aside`` (the next run brings it back), or what is broken."""
    visible = [p for p in out.iterdir() if not p.name.startswith(".")] if out.exists() else []
    if not visible and not (out / ".complete").exists():
        return "moved aside" if any(out.parent.glob(f".{out.name}.old-*")) else "nothing yet"
    try:
        return known.get(scenario.content(out), "broken: other content")
    except (MemorizationIndexError, AssertionError) as error:
        return f"broken: {error}"


def _units(stage: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in stage.rglob("*.safetensors") if _WORKSPACE.search(str(p.parent))}


def started(arguments: list[str], log: Path | str = os.devnull, modules: Path | None = None) -> int:
    """Run a command in a forked process, which prints into ``log`` and names in ``modules`` what it imported."""
    process = os.fork()
    if process:
        return process
    code = 70
    with contextlib.suppress(BaseException):
        printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        code = command(arguments)
        if modules is not None:
            modules.write_text("\n".join(sys.modules))
    os._exit(code)


def wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def worked(process: int, seconds: float) -> int | None:
    """Wait until a process has used so much processor time; its exit code where it came to its end before."""
    clock = (~process << 3) | 2  # its clock of processor time, see clock_getcpuclockid(3)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.clock_gettime(clock) >= seconds:
            return None
        time.sleep(0.001)


def _killed_at(arguments: list[str], moment: float) -> int | None:
    """Kill a command at a moment of its processor time; None, or its exit code where it came to its end before."""
    process = started(arguments)
    code = worked(process, moment)
    if code is not None:
        return code
    os.kill(process, signal.SIGKILL)
    code = wait(process)
    return None if code == -signal.SIGKILL else code


if __name__ == "__main__":
    sys.exit(main())
