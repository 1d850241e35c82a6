"""What several tests share: small training sets, references built on them, and the command line as a function."""

import os

# Before NumPy is imported: threads of linear algebra wait by spinning, which on a busy machine takes ten times as long.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import json
from pathlib import Path
from types import SimpleNamespace

import phantoms
import pytest
from memorization_index.cli import main

#: Subjects of the shared training set, and subjects that are in no training set.
TRAINED, NEW = range(6), range(50, 60)


def build(*arguments: object) -> None:
    """Run ``build`` and insist that it works."""
    assert main(["build", *map(str, arguments)]) == 0


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMORIZATION_INDEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects with one volume each, as a BIDS tree."""
    folder = tmp_path_factory.mktemp("training")
    phantoms.write_cohort(folder, TRAINED)
    return folder


@pytest.fixture(scope="session")
def reference(training: Path) -> Path:
    """A reference of the six subjects. Tests leave it as it is."""
    folder = training.parent / f"{training.name}-reference"
    build(training, "--out", folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three subjects with thin stacks (``training``) and their reference (``reference``): quick, and not calibrated."""
    folder = tmp_path_factory.mktemp("tiny")
    for subject in range(3):
        phantoms.write(folder / "training" / f"sub-{subject:02d}.nii.gz", phantoms.anatomy(subject)[4:7])
    build(folder / "training", "--out", folder / "reference")
    return SimpleNamespace(training=folder / "training", reference=folder / "reference")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]):
    """Run a command with ``--json``: its exit code (``code``), events, and events of a kind (``of``)."""

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = main([*map(str, arguments), "--json"])
        printed = capsys.readouterr()
        events = [json.loads(line) for line in printed.out.splitlines()]
        return SimpleNamespace(
            code=code, events=events, err=printed.err, of=lambda kind: [e for e in events if e["event"] == kind]
        )

    return run
