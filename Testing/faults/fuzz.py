"""Damage files of every kind and open them: ``python Testing/faults/fuzz.py --out FOLDER [--executions N] …``.

Each target is fuzzed by a process of its own with a limit on its memory; this process watches it, notes a crash or a
hang, and goes on behind it. Case number ``i`` of a target depends on the seed alone: ``--show TARGET I`` opens it again
in the foreground. A run that is stopped goes on where it was; ``FOLDER/fuzz.json`` has the counts. Times of cases are
processor time, so that a busy machine makes no findings.

What counts as a finding: the process dies · an exception other than MemorizationIndexError · a refusal that is no
sentence naming the file · more than ``SLOW`` seconds · more than ``MEMORY`` bytes beyond the start · a file opened for
writing, or for reading, outside the case's folder.
"""

import argparse
import contextlib
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import targets

#: Share of each target in the executions, in thousandths; readers of our own and quick ones get more.
SHARES = {
    "nifti": 80, "nifti-gz": 50, "nrrd": 130, "nrrd-detached": 50, "metaimage": 130, "metaimage-detached": 50,
    "dicom": 6, "png": 90, "jpeg": 60, "tiff": 60, "npy": 162, "table": 60, "list": 50, "checkpoint": 4,
    "safetensors": 10, "bundle": 4, "result": 4,
}  # fmt: skip
SLOW, HANG = 3.0, 30.0  # seconds of processor time
WAITING = 600.0  # seconds without a new case, whatever the processor did
MEMORY = 512 << 20
_STATE = 8  # bytes: number of the case being opened


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for counts and findings")
    parser.add_argument("--executions", type=int, default=1_000_000, help="of all targets together (default 1,000,000)")
    parser.add_argument("--targets", default=",".join(targets.TARGETS), help="names with commas (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", nargs=2, metavar=("TARGET", "NUMBER"), help="open one case in the foreground")
    parser.add_argument("--worker", nargs=3, metavar=("TARGET", "START", "STOP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
    if options.show:
        return _show(options.out, options.show[0], options.seed, int(options.show[1]))
    if options.worker:
        return _work(options.out, options.worker[0], options.seed, *map(int, options.worker[1:]))
    return run(options.out, options.targets.split(","), options.executions, options.seed)


def run(out: Path, names: list[str], executions: int, seed: int) -> int:
    """Fuzz targets up to their share of ``executions``; the number of findings."""
    out.mkdir(parents=True, exist_ok=True)
    _make_examples(out / "examples", names)
    record = _record(out, seed)
    whole = sum(SHARES[name] for name in names)
    assert sum(SHARES.values()) == 1000
    for name in names:
        goal = -(-executions * SHARES[name] // whole)
        _fuzz(out, name, seed, goal, record)
        entry = record["targets"][name]
        print(f"{name:20} {entry['executions']:>8} {entry['seconds']:>7.0f} s  {entry['outcomes']}", flush=True)
    return sum(len(entry["findings"]) for entry in record["targets"].values())


def _make_examples(folder: Path, names: list[str]) -> None:
    for name in names:
        for variant in range(targets.TARGETS[name].variants):
            place = folder / name / str(variant)
            if not place.exists():
                place.mkdir(parents=True)
                targets.TARGETS[name].make(place, variant)


def _record(out: Path, seed: int) -> dict:
    path = out / "fuzz.json"
    if path.exists():
        record = json.loads(path.read_text())
        if record["seed"] == seed:
            return record
    command = "python Testing/faults/fuzz.py " + " ".join(sys.argv[1:])
    return {"command": command, "seed": seed, "memory_cap_bytes": MEMORY, "slow_seconds": SLOW, "targets": {}}


def _fuzz(out: Path, name: str, seed: int, goal: int, record: dict) -> None:
    empty = {"executions": 0, "seconds": 0.0, "peak_growth_bytes": 0, "outcomes": {}, "findings": []}
    entry = record["targets"].setdefault(name, empty)
    while entry["executions"] < goal:
        started = time.monotonic()
        try:
            _one_process(out, name, seed, min(goal, entry["executions"] + 20_000), entry)
        finally:  # also where this process is asked to stop
            entry["seconds"] = round(entry["seconds"] + time.monotonic() - started, 1)
            beside = out / "fuzz.json.new"
            beside.write_text(json.dumps(record, indent=1) + "\n")
            beside.replace(out / "fuzz.json")


def _one_process(out: Path, name: str, seed: int, stop: int, entry: dict) -> None:
    """Let a worker open cases up to ``stop``; where it dies or hangs, note the case and end behind it."""
    state_path, report, fault = (out / f"{name}.{suffix}" for suffix in ("state", "report", "fault"))
    state_path.write_bytes(bytes(_STATE))
    for path in (report, fault):
        path.unlink(missing_ok=True)
    start = entry["executions"]
    command = [sys.executable, __file__, "--out", out, "--seed", seed, "--worker", name, start, stop]
    with state_path.open("r+b") as file, mmap.mmap(file.fileno(), _STATE) as state:
        state[:] = start.to_bytes(8, "little")
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
        stopped: BaseException | None = None
        try:
            verdict = _watch(process, state)
        except (KeyboardInterrupt, SystemExit) as error:
            stopped, verdict = error, None
            process.kill()
            process.wait()
        at = int.from_bytes(state[:], "little")
    if fault.exists():
        raise SystemExit(f"{name}: fuzzing itself failed at case {at}:\n{fault.read_text()}")
    found = json.loads(report.read_text()) if report.exists() else {"outcomes": {}, "findings": [], "peak": 0}
    entry["outcomes"] = dict(Counter(entry["outcomes"]) + Counter(found["outcomes"]))
    entry["findings"] += found["findings"]
    entry["peak_growth_bytes"] = max(entry["peak_growth_bytes"], found["peak"])
    if stopped is not None:
        entry["executions"] = found.get("next", start)
        raise stopped
    entry["executions"] = found.get("next", at + 1)
    if process.returncode != 0 or verdict:
        died = verdict or f"process ended by {_signal_name(process.returncode)}"
        entry["findings"].append({"number": at, "what": died})
        entry["executions"] = at + 1
        lost = {"died": 1, "read or refused (the count died with the process)": at - found.get("next", start)}
        entry["outcomes"] = dict(Counter(entry["outcomes"]) + Counter(lost))


def _watch(process: subprocess.Popen, state: mmap.mmap) -> str | None:
    """Wait until a worker ends; what is wrong where it had to be ended."""
    clock = (~process.pid << 3) | 2  # the worker's clock of processor time, see clock_getcpuclockid(3)
    last, used, since = -1, 0.0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.25)
        number, now = int.from_bytes(state[:], "little"), used
        with contextlib.suppress(OSError):  # it may just have ended
            now = time.clock_gettime(clock)
        if number != last:
            last, used, since = number, now, time.monotonic()
        elif now - used > HANG or time.monotonic() - since > WAITING:
            process.kill()
            process.wait()
            return f"hang (more than {HANG:.0f} s of processor time, or {WAITING:.0f} s)"
    return None


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# --------------------------------------------------------------------------------------------------------------------
# In the worker


def _work(out: Path, name: str, seed: int, start: int, stop: int) -> int:
    """Open cases. An exception outside of the opening is no finding: it is kept where the watching process sees it."""
    try:
        _open_cases(out, name, seed, start, stop)
    except BaseException:
        (out / f"{name}.fault").write_text(traceback.format_exc())
        raise
    return 0


def _open_cases(out: Path, name: str, seed: int, start: int, stop: int) -> None:
    report = out / f"{name}.report"
    outcomes: Counter[str] = Counter()
    findings: list[dict] = []
    place = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-", dir=place) as sandbox,
        (out / f"{name}.state").open("r+b") as file,
        mmap.mmap(file.fileno(), _STATE) as state,
    ):
        folder = Path(sandbox, "case")
        tempfile.tempdir = str(folder.with_name("temporary"))  # for readers that need a file to decode from
        for place in (folder, Path(tempfile.tempdir)):
            place.mkdir()
        case = targets.Case(name, folder, out / "examples")
        watch = Watch(folder)
        _warm_up(case, out / "examples" / name / "0")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # readers in C++ write their warnings there
        watch.begin()
        for number in range(start, stop):
            state[:] = number.to_bytes(8, "little")
            entry = case.damage(seed, number)
            outcome, what = watch.open(case, entry, number)
            outcomes[outcome] += 1
            if what:
                findings.append({"number": number, "what": what})
            if what or (number + 1 - start) % 500 == 0 or number + 1 == stop:
                found = {"outcomes": outcomes, "findings": findings, "peak": watch.growth(), "next": number + 1}
                report.with_suffix(".new").write_text(json.dumps(found))
                report.with_suffix(".new").replace(report)
        watch.end()


def _warm_up(case: targets.Case, example: Path) -> None:
    """Open an undamaged example, so that what readers load once is not counted, and it is sure that they read it."""
    import SimpleITK as sitk
    from memorization_index import durable

    durable.TICK = 0  # nothing else writes to these files
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # many threads for pictures this small only wait
    case.target.open(example if case.target.entry is None else example / case.target.entry, 0)


class Watch:
    """Opens cases and judges what happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._inside = False
        self._touched: list[str] = []
        own = (self.folder, str(folder.with_name("temporary")), sys.prefix, sys.base_prefix)
        self._allowed = (*(str(Path(p).resolve()) for p in sys.path if p), *own)
        sys.addaudithook(self._hook)

    def begin(self) -> None:
        """Limit this process's memory to what it has now and ``MEMORY`` more."""
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MEMORY, most))
        self._before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def end(self) -> None:
        """Give the memory limit back."""
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def growth(self) -> int:
        """Bytes by which the largest resident size exceeds that at the start."""
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._before)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self._inside or event not in ("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        path = arguments[0]
        if event != "open" and isinstance(path, str) and not os.path.isabs(path):
            return  # beside an open folder, as rmtree removes; the folder itself was looked at
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if not real.startswith((*self._allowed, "/proc/self", "/sys/", "/dev/null")):
                reads = event == "open" and not (arguments[1] and set(str(arguments[1])) & set("wax+"))
                self._touched.append(f"{event}{'-r' if reads else ''} {real}")

    def open(self, case: targets.Case, entry: Path, number: int) -> tuple[str, str | None]:
        """Outcome, and what is wrong with it."""
        from memorization_index.errors import MemorizationIndexError

        self._touched.clear()
        started = time.process_time()
        self._inside, what, outcome = True, None, "accepted"
        try:
            case.target.open(entry, number)
        except MemorizationIndexError as error:
            outcome, what = "refused", self._judged(error)
        except BaseException:
            outcome, what = "exception", traceback.format_exc(limit=-4)
        finally:
            self._inside = False
        seconds = time.process_time() - started
        if self._touched and not (case.target.names_files and self._touched[0].startswith("open-r")):
            what = f"touched {self._touched[0]}"
        elif seconds > SLOW:
            what = f"took {seconds:.1f} s"
        elif self.growth() > MEMORY:
            what = f"grew by {self.growth() >> 20} MiB"
            self._before += self.growth()
        return (outcome if what is None else "finding"), what

    def _judged(self, error: BaseException) -> str | None:
        text, cause = str(error), error
        while cause is not None:
            if isinstance(cause, MemoryError) or "allocate" in str(cause):
                return f"out of memory: {text[:300]}"
            cause = cause.__cause__
        sentence = self.folder in text and "\n" not in text and text.endswith(".") and ";" in text and len(text) < 1200
        return None if sentence else f"no sentence: {text[:300]!r}"


def _show(out: Path, name: str, seed: int, number: int) -> int:
    _make_examples(out / "examples", [name])
    with tempfile.TemporaryDirectory() as folder:
        case = targets.Case(name, Path(folder), out / "examples")
        entry = case.damage(seed, number)
        print({p.name: p.read_bytes()[:700] for p in Path(folder).iterdir() if p.stat().st_size < 100_000}, flush=True)
        watch = Watch(Path(folder))
        watch.begin()
        print(*watch.open(case, entry, number))
        try:
            case.target.open(entry, number)
        except Exception as error:
            print(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
