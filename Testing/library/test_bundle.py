"""The reference on disk: complete, the same every time, never half-written, never changed by use."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference, nulls
from memorization_index.bundle import fingerprint_of, write_manifest
from memorization_index.cli import main

PACKAGE = Path(sys.modules["memorization_index"].__file__).parent


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def assert_same_scores(first, second) -> None:
    for table in ("slices", "volumes"):
        one, other = getattr(first, table), getattr(second, table)
        assert list(one) == list(other)
        for column in one:
            np.testing.assert_array_equal(one[column], other[column], err_msg=column)


# --------------------------------------------------------------------------------------------------------------------
# What is in it


def test_of_deep_volumes_the_null_has_every_so_many_slices(training: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(nulls, "NULL_SLICES", 15)
    built = Reference.build(training, out=tmp_path / "reference")
    volumes, slices = len(built.volumes), len(built.slice_number)
    assert built.null.step == slices // 15 == 2
    assert slices / len(built.null.similarity) == pytest.approx(built.null.step, rel=0.2)
    assert len(np.unique(built.null.volume)) == volumes
    opened = Reference.open(tmp_path / "reference")
    assert opened.null.step == built.null.step
    assert opened.null.volume_numbers(3.0, 6) == built.null.volume_numbers(3.0, 6)


def test_manifest_counts_what_is_there(training: Path, tmp_path: Path) -> None:
    shutil.copytree(training / "sub-00", tmp_path / "training" / "sub-00")
    later = np.concatenate([phantoms.anatomy(8)[:5], np.zeros((2, 48, 40), np.int16)])
    phantoms.write(tmp_path / "training" / "sub-00" / "later.nii.gz", later)
    phantoms.write(tmp_path / "training" / "sub-01.nii.gz", phantoms.anatomy(1)[:4])
    (tmp_path / "training" / "sub-02.nii.gz").write_text("broken")
    Reference.build(tmp_path / "training", out=tmp_path / "reference")
    manifest = manifest_of(tmp_path / "reference")
    assert manifest["counts"] == {"slices": 6 + 5 + 4, "volumes": 3, "subjects": 2, "empty_slices": 2, "skipped": 1}
    assert manifest["subjects_from"] == {"BIDS": 4}
    volumes, slices = (rows_of(tmp_path / "reference" / f"{name}.csv") for name in ("volumes", "slices"))
    assert [(v["subject"], v["total"], v["slices"]) for v in volumes] == [
        ("sub-00", "6", "6"),
        ("sub-00", "7", "5"),
        ("sub-01", "4", "4"),
    ]
    assert len(slices) == 15
    assert all(Path(v["path"]).is_file() for v in volumes)
    assert set(manifest["files"]) == set(contents(tmp_path / "reference")) - {"manifest.json", "manifest.json.sha256"}


def test_nothing_in_it_is_pickled(reference: Path) -> None:
    kinds = {".csv", ".json", ".sha256", ".npy", ".safetensors"}
    assert {path.suffix for path in reference.iterdir()} <= kinds
    for path in reference.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype == np.float16
    for source in PACKAGE.rglob("*.py"):
        assert not re.search(r"pickle\.(load|dump|(Unp|P)ickler)|allow_pickle=True", source.read_text("utf-8")), source


def test_long_series_and_odd_paths_come_back(tiny, tmp_path: Path) -> None:
    """Thousands of files a volume, and any character that a path may have."""
    reference = Reference.open(tiny.reference)
    files = tuple(f'/archive/{"x" * 150}/a|b, "c" {i:05d}.dcm' for i in range(3000))
    reference.volumes[1] = replace(reference.volumes[1], files=files)
    reference.save(tmp_path / "copy")
    assert Reference.open(tmp_path / "copy").volumes == reference.volumes


# --------------------------------------------------------------------------------------------------------------------
# The same every time


def test_two_builds_are_the_same_byte_by_byte(training: Path, reference: Path, tmp_path: Path) -> None:
    Reference.build(training, out=tmp_path / "reference")
    assert manifest_of(tmp_path / "reference")["files"] == manifest_of(reference)["files"]
    assert Reference.open(tmp_path / "reference").fingerprint == Reference.open(reference).fingerprint


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("counts", "subjects", 300),
        ("calibration", "thresholds", {"copy_ncc": 0.9999}),
        ("power", "card", "full"),
        ("controls", "volumes", 40),
    ],
)
def test_fingerprint_covers_what_the_manifest_says(tiny, tmp_path: Path, part: str, key: str, value: object) -> None:
    """Whoever changes it can make its checksum anew; the reference is another one then."""
    folder = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    manifest = manifest_of(folder)
    manifest[part] = {**manifest.get(part, {}), key: value}
    for name in ("manifest.json", "manifest.json.sha256"):
        (folder / name).unlink()
    write_manifest(folder, manifest)
    assert manifest["files"] == manifest_of(tiny.reference)["files"]
    assert fingerprint_of(manifest_of(folder)) != fingerprint_of(manifest_of(tiny.reference))


def test_fingerprint_does_not_cover_the_date(tiny) -> None:
    manifest = manifest_of(tiny.reference)
    assert fingerprint_of({**manifest, "created": "another day"}) == fingerprint_of(manifest)


def test_order_of_files_does_not_matter(training: Path, reference: Path, tmp_path: Path) -> None:
    paths = sorted(path.relative_to(training).as_posix() for path in training.rglob("*.nii.gz"))
    given = training / "order.txt"
    given.write_text("\n".join([*paths[3:], *paths[2::-1]]))
    try:
        Reference.build(given, out=tmp_path / "reference")
    finally:
        given.unlink()
    assert manifest_of(tmp_path / "reference")["files"] == manifest_of(reference)["files"]


def test_order_of_queries_does_not_matter(queries: Path, reference: Path) -> None:
    opened = Reference.open(reference)
    paths = sorted(queries.iterdir())
    forward, backward = opened.score(paths), opened.score(paths[::-1])
    for table, keys in (("volumes", ["volume"]), ("slices", ["slice", "volume"])):
        one, other = getattr(forward, table), getattr(backward, table)
        first, second = (np.lexsort([t[key].astype(str) for key in keys]) for t in (one, other))
        for column in one:
            np.testing.assert_array_equal(one[column][first], other[column][second], err_msg=column)


def test_a_query_is_scored_the_same_alone_and_among_others(queries: Path, reference: Path) -> None:
    opened = Reference.open(reference)
    everything, alone = opened.score(queries), opened.score(queries / "noisy.nii.gz")
    own = everything.slices["volume"] == "noisy.nii.gz"
    for column in alone.slices:
        if column != "q_value":  # which is of a run, not of a slice
            values = everything.slices[column][own]
            np.testing.assert_array_equal(alone.slices[column], values, err_msg=column)


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    noise = np.random.default_rng(0).normal(0, 15, (6, *phantoms.SHAPE[1:]))
    noisy = np.clip(phantoms.anatomy(3)[3:9] * 0.7 + noise, 0, None)
    phantoms.write(folder / "exact.nii.gz", phantoms.anatomy(2)[3:9])
    phantoms.write(folder / "noisy.nii.gz", noisy.astype(np.int16))
    phantoms.write(folder / "new.nii.gz", phantoms.anatomy(51)[3:9])
    return folder


def test_reference_in_memory_and_reopened_give_the_same(training: Path, reference: Path, queries: Path) -> None:
    built = Reference.build(training)
    assert built.folder is None
    assert_same_scores(built.score(queries), Reference.open(reference).score(queries))


def test_scores_read_back_are_those_that_were_written(reference: Path, queries: Path, tmp_path: Path) -> None:
    from memorization_index import Scores

    scores = Reference.open(reference).score(queries)
    scores.write(tmp_path, keep_paths=True)
    read = Scores.read(tmp_path)
    for table in ("slices", "volumes"):
        for name, column in getattr(scores, table).items():
            other = getattr(read, table)[name]
            if column.dtype.kind == "f":
                np.testing.assert_allclose(other, column, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(other, column, err_msg=name)
    assert read.run == scores.run


# --------------------------------------------------------------------------------------------------------------------
# Never changed by use


def test_use_changes_nothing(tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    folder.chmod(0o500)
    try:
        opened = Reference.open(folder)
        opened.score(tiny.training).write(tmp_path / "result")
    finally:
        folder.chmod(0o700)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before
    for parts in opened.features.values():
        for part in parts:
            assert isinstance(part, np.memmap)
            assert not part.flags.writeable


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("whitening.safetensors", lambda data: b"no tensors"),
        ("features-spectral-00000.npy", lambda data: data[:100]),
        ("slices.csv", lambda data: data.replace(b"\n2,", b"\n7,")),
        ("slices.csv", lambda data: data.rsplit(b"\n", 2)[0] + b"\n"),
        ("volumes.csv", lambda data: data.replace(b"subject", b"person", 1)),
        ("volumes.csv", lambda data: re.sub(rb",\d+(,\d+\n)", b"," + b"1" * 99 + rb"\1", data, count=1)),
        ("files.csv", lambda data: data + b"9,/elsewhere\n"),
        ("null.safetensors", lambda data: data[:8]),
    ],
)
def test_files_that_contradict_each_other(tiny, tmp_path: Path, name: str, spoil) -> None:
    """A bundle with right checksums that ``save`` did not write is refused, not half understood."""
    folder = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    manifest = manifest_of(folder)
    for own in ("manifest.json", "manifest.json.sha256"):
        (folder / own).unlink()
    write_manifest(folder, manifest)
    with pytest.raises(MemorizationIndexError, match=r"cannot be read as a reference") as caught:
        Reference.open(folder)
    assert str(folder) in str(caught.value)


def test_save_replaces_only_references(tiny, tmp_path: Path) -> None:
    reference = Reference.open(tiny.reference)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(MemorizationIndexError, match=r"mine: holds files but is not a reference"):
        reference.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for _ in range(2):
        reference.save(tmp_path / "link")
    assert Reference.open(tmp_path / "empty").fingerprint == reference.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "link", "mine"]


# --------------------------------------------------------------------------------------------------------------------
# Killed at any moment


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """More volumes than one unit of work, and the reference that an uninterrupted build makes of them."""
    folder = tmp_path_factory.mktemp("many")
    for subject in range(34):
        phantoms.write(folder / "training" / f"sub-{subject:02d}.nii.gz", phantoms.anatomy(subject)[5:7])
    assert main(["build", str(folder / "training"), "--out", str(folder / "uninterrupted")]) == 0
    return SimpleNamespace(training=folder / "training", files=manifest_of(folder / "uninterrupted")["files"])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}


def kill_build_at(moment, training: Path, out: Path) -> None:
    """Start a build as a process of its own, and kill it at the first event for which ``moment`` is true."""
    command = [sys.executable, "-m", "memorization_index", "build", training, "--out", out, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True) as process:
        for line in process.stdout:
            if moment(json.loads(line)):
                process.kill()
                break
        else:
            pytest.fail("the build ended before it was killed")
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_build_goes_on_where_it_was(many, tmp_path: Path, capsys) -> None:
    out, workspace = tmp_path / "reference", tmp_path / ".reference.building"
    unit = workspace / "unit-000000.safetensors"

    def at(stage: str, done: int):
        return lambda e: e["event"] == "progress" and e["stage"].startswith(stage) and e["done"] >= done

    kill_build_at(at("reading", 0), many.training, out)
    assert not out.exists()
    kill_build_at(at("reading", 34), many.training, out)
    assert not out.exists()
    finished = unit.stat().st_mtime_ns
    kill_build_at(at("building the null", 10), many.training, out)
    kill_build_at(at("verifying", 5), many.training, out)
    assert not out.exists()
    assert unit.stat().st_mtime_ns == finished, "finished work is not done again"
    # A unit that a power cut left incomplete does not count as finished.
    unit.write_bytes(unit.read_bytes()[:1000])
    assert main(["build", str(many.training), "--out", str(out)]) == 0
    assert "volumes were read by an interrupted build and are used again" in capsys.readouterr().err
    assert manifest_of(out)["files"] == many.files
    assert [p.name for p in tmp_path.iterdir()] == ["reference"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_changed_files_or_settings_begin_anew(many, tiny, tmp_path: Path) -> None:
    """What an interrupted build of other files left is not used."""
    out = tmp_path / "reference"
    kill_build_at(lambda e: e.get("stage") == "building the null", many.training, out)
    assert main(["build", str(tiny.training), "--out", str(out)]) == 0
    assert manifest_of(out)["files"] == manifest_of(tiny.reference)["files"]


#: Kills itself just before the ``moment``-th renaming of a file or folder.
_SELF_KILLED = """
import os, signal, sys
from memorization_index.cli import main
moment, replace = int(sys.argv[1]), os.replace
def counted(*names):
    global moment
    moment -= 1
    if moment == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
os.replace = counted
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(("moment", "stands"), [(1, "old"), (2, "old"), (3, None), (4, "new")])
def test_killed_while_it_moves_files(tiny, tmp_path: Path, moment: int, stands: str | None) -> None:
    """A build has three renamings: its one unit of work, the old reference aside, the new one into place."""
    out = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    old = manifest_of(out)
    arguments = ["build", str(tiny.training), "--out", str(out), "--seed", "7"]
    command = [sys.executable, "-c", _SELF_KILLED, str(moment), *arguments]
    code = subprocess.run(command, env=environment(), capture_output=True, check=False).returncode
    assert code == (0 if stands == "new" else -signal.SIGKILL)
    if stands == "old":
        assert main(["verify", str(out)]) == 0
        assert manifest_of(out) == old
    assert main(arguments) == 0
    assert manifest_of(out)["seed"] == 7
    assert main(["verify", str(out)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["reference"], "nothing is left beside it"


def test_old_reference_that_a_killed_build_moved_aside_comes_back(tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny.reference, tmp_path / ".reference.old-12345")
    (tmp_path / ".reference.new-12345").mkdir()
    from memorization_index.bundle import recover

    recover(tmp_path / "reference")
    assert contents(tmp_path / "reference") == contents(tiny.reference)
    assert [p.name for p in tmp_path.iterdir()] == ["reference"]


def test_failed_build_leaves_the_old_reference(tiny, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny.reference, tmp_path / "reference"))
    before = contents(out)
    (tmp_path / "bad.nii").write_text("x")
    assert main(["build", str(tmp_path / "bad.nii"), "--out", str(out)]) == 2
    assert contents(out) == before
