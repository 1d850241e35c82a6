"""A Dask cluster gives what one machine gives, whatever happens to its workers and its client."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference, building, cluster, encoding
from memorization_index.building import Settings, build
from memorization_index.cli import main
from memorization_index.progress import Progress, Stopped
from test_extending import assert_same

distributed = pytest.importorskip("distributed", reason="needs memorization-index[cluster]")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and SIGSTOP")]

#: Volumes of five people, two of each.
VOLUMES = range(10)
FIRST, SMALL, BROKEN = "sub-00_ses-0.nii.gz", "sub-04_ses-2.nii.gz", "sub-99_ses-0.nii.gz"
PACKAGE = Path(cluster.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _small_shards():
    """So small that their moments are merged in a tree of several levels; the client says where shards end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_SHARD_ROWS", 4)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Volumes of mostly empty slices, which take long to read and little afterwards, and their reference."""
    folder = tmp_path_factory.mktemp("cohort")
    for number in VOLUMES:
        voxels = np.zeros((150, 256, 256), np.int16)
        voxels[70, 80:176, 80:176] = phantoms.anatomy(number, (6, 96, 96))[3]
        name = f"sub-{number // 2:02d}_ses-{number % 2}.nii.gz"
        phantoms.write(folder / "training" / name, voxels, (2.0, 1.0, 1.0))
    phantoms.write(folder / "training" / SMALL, phantoms.anatomy(50, (12, 30, 30))[5:7], (4.0, 2.0, 2.0))
    (folder / "training" / BROKEN).write_text("broken")
    Reference.build(folder / "training", folder / "reference", power="none")
    return SimpleNamespace(folder=folder, training=folder / "training", reference=folder / "reference")


@pytest.fixture(scope="module")
def workers():
    """Three workers in processes of their own; one that is killed comes back."""
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as local,
        distributed.Client(local) as client,
    ):
        yield SimpleNamespace(address=local.scheduler_address, client=client)


class Watched(Progress):
    """Calls ``seen(stage, done)`` whenever something is shown."""

    def __init__(self, seen) -> None:
        super().__init__()
        self._seen = seen

    def show(self) -> None:
        self._seen(self.stage, self.done)


def build_there(workers, cohort, out: Path, seen=lambda _stage, _done: None, **settings) -> Reference:
    settings = {"power": "none", **settings}
    return build([cohort.training], out, Settings(scheduler=workers.address, **settings), Watched(seen))


def busy_process(workers) -> int:
    """The process of a worker that has work to do."""
    processes = workers.client.run(os.getpid)
    return next(processes[worker] for worker, tasks in workers.client.processing().items() if tasks)


def units(out: Path) -> dict[str, int]:
    """The finished units of a build, and when each was written."""
    workspace = out.with_name(f".{out.name}.building")
    return {p.name: p.stat().st_mtime_ns for p in workspace.glob("unit-*.safetensors")}


def test_same_bundle_from_three_workers(workers, cohort, tmp_path: Path) -> None:
    stages = []
    build_there(workers, cohort, tmp_path / "reference", lambda stage, _done: stages.append(stage))
    assert_same(tmp_path / "reference", cohort.reference)
    assert list(dict.fromkeys(stages)) == ["reading and describing", "building the null", "verifying"]
    assert len(list((tmp_path / "reference").glob("features-layout-*.npy"))) > 2
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


def test_same_bundle_and_scores_through_cells(workers, cohort, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(building, "CLUSTERED_FROM", 4)  # the client makes the cells; workers search what is there
    Reference.build(cohort.training, tmp_path / "here", power="none")
    build_there(workers, cohort, tmp_path / "there")
    assert set(Reference.open(tmp_path / "there").cells) == {"spectral", "layout"}
    assert_same(tmp_path / "there", tmp_path / "here")
    one, other = (
        Reference.open(tmp_path / "there").score(cohort.training / FIRST, scheduler=scheduler).slices
        for scheduler in (workers.address, None)
    )
    for name, values in other.items():
        np.testing.assert_array_equal(one[name], values, name)


def test_same_power_card_from_one_worker(cohort, tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=50
    ) as local:
        few = SimpleNamespace(training=tmp_path / "training")
        few.training.mkdir()
        for number in range(2):
            shutil.copy(cohort.training / f"sub-{number:02d}_ses-0.nii.gz", few.training)
        # Nobody can be planted from pictures as small as these, which the workers have to find out.
        for number in range(2, 5):
            small = phantoms.anatomy(number, (12, 30, 30))[5:7]
            phantoms.write(few.training / f"sub-{number:02d}_ses-0.nii.gz", small, (4.0, 2.0, 2.0))
        Reference.build(few.training, tmp_path / "here", power="cheap")
        build_there(SimpleNamespace(address=local.scheduler_address), few, tmp_path / "there", power="cheap")
    assert_same(tmp_path / "there", tmp_path / "here")
    assert json.loads((tmp_path / "here" / "manifest.json").read_text())["power"]["augmentations"][0]["copies"] == 2


@pytest.mark.parametrize("stage", ["reading and describing", "building the null"])
def test_killed_worker_costs_its_unit_only(stage: str, workers, cohort, tmp_path: Path) -> None:
    out, killed, finished, kept = tmp_path / "reference", [], {}, {}

    def seen(now: str, done: int) -> None:
        if now == stage and done >= 2 and not killed:
            finished.update(units(out))
            killed.append(busy_process(workers))
            os.kill(killed[0], signal.SIGKILL)
        if now == "building the null":
            kept.update(units(out))

    build_there(workers, cohort, out, seen)
    assert killed
    assert len(finished) >= 2
    assert {name: kept[name] for name in finished} == finished, "what was finished is not done again"
    assert_same(out, cohort.reference)
    workers.client.wait_for_workers(3, timeout=120)


def test_worker_that_stands_still_holds_up_no_other(workers, cohort, tmp_path: Path) -> None:
    total = len(list(cohort.training.iterdir()))
    stopped, resumed = [], []

    def seen(stage: str, done: int) -> None:
        if stage == "reading and describing" and done >= 2 and not stopped:
            stopped.append(busy_process(workers))
            os.kill(stopped[0], signal.SIGSTOP)
            rescue.start()
        # It holds the unit that it works on, and one more that it was given in advance.
        if stopped and not resumed and done >= total - 2:
            resumed.append(done)
            os.kill(stopped[0], signal.SIGCONT)

    rescue = threading.Timer(60, lambda: os.kill(stopped[0], signal.SIGCONT))
    build_there(workers, cohort, tmp_path / "reference", seen)
    rescue.cancel()
    assert resumed, "all others were done while it stood still"
    assert_same(tmp_path / "reference", cohort.reference)


def test_client_that_stopped_or_was_killed_goes_on(workers, cohort, tmp_path: Path) -> None:
    out = tmp_path / "reference"
    command = [sys.executable, "-m", "memorization_index", "build", cohort.training, "--out", out, "--power", "none"]
    command += ["--json", "--scheduler", workers.address]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}

    def interrupted(number: signal.Signals, after: int) -> str:
        # A shell has its background jobs ignore SIGINT, and children of a test run there inherit that.
        heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        signal.signal(signal.SIGINT, heeded)
        with process:
            for line in process.stdout:
                if json.loads(line).get("done", 0) >= after:
                    process.send_signal(number)
                    break
            printed = process.stdout.read().decode()
        assert process.returncode == (130 if number == signal.SIGINT else -number), printed
        return printed

    last = interrupted(signal.SIGINT, 2).splitlines()[-1]
    assert json.loads(last)["message"] == "Stopped; the same command goes on from what was finished."
    after_stop = units(out)
    interrupted(signal.SIGKILL, len(after_stop) + 1)
    after_kill = units(out)
    kept = {}

    def seen(stage: str, _done: int) -> None:
        if stage == "building the null":
            kept.update(units(out))

    build_there(workers, cohort, out, seen)
    assert 2 <= len(after_stop) < len(after_kill) <= len(kept)
    assert {n: after_kill[n] for n in after_stop} == after_stop
    assert {n: kept[n] for n in after_kill} == after_kill
    assert_same(out, cohort.reference)


def test_stop_cancels_what_is_not_done(workers, cohort, tmp_path: Path) -> None:
    progress = Watched(lambda _stage, done: progress.stop() if done >= 1 else None)
    with pytest.raises(Stopped):
        build([cohort.training], tmp_path / "reference", Settings(scheduler=workers.address), progress)
    until = time.monotonic() + 10
    while any(workers.client.processing().values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(workers.client.processing().values())
    assert len(units(tmp_path / "reference")) < len(list(cohort.training.iterdir())) - 2
    assert not (tmp_path / "reference").exists()


def test_same_scores(workers, cohort, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    for name in (FIRST, SMALL, BROKEN):
        shutil.copy(cohort.training / name, queries)
    phantoms.write(queries / "new.nii.gz", phantoms.anatomy(70, (12, 96, 96))[4:8], (2.0, 1.0, 1.0))
    (cohort.training / FIRST).rename(tmp_path / "away.nii.gz")
    try:
        for out, more in (("here", []), ("there", ["--scheduler", workers.address])):
            command = ["score", str(cohort.reference), str(queries), "--out", str(tmp_path / out), *more]
            assert main(command) == 0
    finally:
        (tmp_path / "away.nii.gz").rename(cohort.training / FIRST)
    files = {path.name for path in (tmp_path / "here").iterdir()}
    assert {path.name for path in (tmp_path / "there").iterdir()} == files
    for name in files - {"run.json", "report.html", "agreement"}:
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    here, there = (json.loads((tmp_path / out / "run.json").read_text()) for out in ("here", "there"))
    assert here["counts"]["training_volumes_missing"] == 1
    assert {**there, "created": 0, "seconds": 0} == {**here, "created": 0, "seconds": 0}


def asleep(path: Path) -> str:
    """A task that lasts until its worker is gone, and the next time no longer."""
    if not path.exists():
        path.write_text("begun")
        time.sleep(60)
    return "done"


@pytest.mark.parametrize("returns", [True, False])
def test_last_worker_that_goes_is_told_and_waited_for(returns: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "_LOOK_FOR_WORKERS", 0.2)
    monkeypatch.setattr(cluster, "_ALONE", 60 if returns else 1)
    (tmp_path / "plan").write_text("plan")
    told: list[str] = []
    progress = Progress()
    with (
        distributed.LocalCluster(n_workers=1, processes=True, dashboard_address=":0", silence_logs=50) as local,
        cluster.connected(local.scheduler_address, progress) as connected,
    ):

        def warned(message: str) -> None:
            told.append(message)
            if returns:
                local.scale(1)

        def vanish() -> None:
            while not (tmp_path / "begun").exists():
                time.sleep(0.05)
            local.scale(0)

        monkeypatch.setattr(progress, "warning", warned)
        connected.share(tmp_path / "plan")
        threading.Thread(target=vanish).start()
        if returns:
            assert connected.all(asleep, [(tmp_path / "begun",)]) == ["done"]
        else:
            with pytest.raises(MemorizationIndexError, match=r"no worker for .* minutes; .* start workers and give"):
                connected.all(asleep, [(tmp_path / "begun",)])
    assert len(told) == 1
    assert f"{local.scheduler_address}: has lost all its workers; waiting" in told[0]


def test_worker_that_does_not_see_the_images(workers, cohort, tmp_path: Path) -> None:
    training = tmp_path / "training"
    shutil.copytree(cohort.training, training)

    def seen(stage: str, _done: int) -> None:
        if stage == "reading and describing" and training.exists():
            training.rename(tmp_path / "away")

    with pytest.raises(
        MemorizationIndexError, match=r"sub-\d\d_ses-\d\.nii\.gz: is not there for the worker on .*mounted"
    ):
        build_there(workers, SimpleNamespace(training=training), tmp_path / "reference", seen)


def test_worker_that_does_not_see_the_folder(workers, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("plan")
    with cluster.connected(workers.address, Progress()) as connected:
        connected.share(tmp_path / "plan")
        assert connected.all(abs, [(-1,), (2,)]) == [1, 2]
        (tmp_path / "other").write_text("other")
        connected.share(tmp_path / "other")
        (tmp_path / "other").unlink()
        with pytest.raises(MemorizationIndexError, match=r"other: is not what the worker on .* one file system"):
            connected.all(abs, [(-1,)])


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ("other version", r"has memorization-index 9\.9\.9; expected .* as here"),
        ("no module", r"A worker cannot load what it needs \(No module named 'memorization_index\.cluster'\); .*"),
    ],
)
def test_worker_with_another_version(installed: str, expected: str, cohort, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    if installed == "other version":
        (site / PACKAGE.name / "_version.py").write_text('__version__ = "9.9.9"\n')
    else:  # one that is too old to know clusters
        (site / PACKAGE.name / "cluster.py").unlink()
    others = [path for path in sys.path if path and not (Path(path) / PACKAGE.name).exists()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *others])}
    with distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0", silence_logs=50) as local:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", local.scheduler_address]
        command += ["--no-dashboard", "--local-directory", tmp_path / "scratch"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            with distributed.Client(local) as client:
                client.wait_for_workers(1, timeout=30)
            with pytest.raises(MemorizationIndexError, match=expected):
                build_there(SimpleNamespace(address=local.scheduler_address), cohort, tmp_path / "reference")
        finally:
            process.terminate()
            process.wait()


@pytest.mark.parametrize("address", ["nowhere.json", "nonsense://host:8786", "tcp://host", "text.json", "none.json"])
def test_what_is_no_scheduler_is_told_in_one_sentence(address: str, cohort, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "none.json").write_text('{"type": "Scheduler"}')
    command = [sys.executable, "-m", "memorization_index", "build", cohort.training, "--out", "reference"]
    run = subprocess.run(
        [*map(str, command), "--scheduler", address],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = "a file without the address of a scheduler" if (tmp_path / address).exists() else "no address and no file"
    assert run.returncode == 2
    assert f"--scheduler {address}: is {found}; expected the address" in run.stderr
    assert len(run.stderr.splitlines()) == 1, "no exception of a client that was left open"


def test_the_file_that_a_scheduler_wrote_says_where_it_is(workers, tmp_path: Path) -> None:
    workers.client.write_scheduler_file(tmp_path / "scheduler.json")
    with cluster.connected(str(tmp_path / "scheduler.json"), Progress()) as connected:
        connected.share(tmp_path / "scheduler.json")
        assert connected.all(abs, [(-1,)]) == [1]


def test_no_scheduler(cohort, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER", 1)
    with pytest.raises(MemorizationIndexError, match=r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers there"):
        build_there(SimpleNamespace(address="tcp://127.0.0.1:9"), cohort, tmp_path / "reference")
    with pytest.raises(MemorizationIndexError, match="needs a place that all workers see"):
        Reference.build(cohort.training, scheduler="tcp://127.0.0.1:9")
