"""The wheel and the sdist as a user gets them: built, installed into an empty environment without torch, and run."""

import csv
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import phantoms
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

pytestmark = [pytest.mark.packages, pytest.mark.slow]


def run(*command: object, cwd: Path) -> str:
    """Run a command outside the project, with none of its paths, and insist that it works."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of this tree and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The ``bin`` folder of an environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("user")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", built[1], cwd=folder)
    return scripts


def test_the_archives_hold_the_library_and_nothing_else(built):
    sdist, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
        metadata = archive.read(next(name for name in in_wheel if name.endswith("METADATA"))).decode()
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    package = ROOT / "MemorizationIndex" / "memorization_index"
    source = {p.relative_to(package.parent).as_posix() for p in package.rglob("*.py")}
    assert source <= in_wheel
    assert {f"MemorizationIndex/{name}" for name in source} <= in_sdist
    assert {"pyproject.toml", "README.md", "LICENSE"} <= in_sdist
    assert "memorization_index/py.typed" in in_wheel
    assert {name.partition("/")[0].partition("-")[0] for name in in_wheel} == {"memorization_index"}
    for extra in PROJECT["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in metadata


def test_from_installation_to_a_verdict_without_torch(installed, tmp_path):
    listed = json.loads(run(installed / "python", "-m", "pip", "list", "--format=json", cwd=tmp_path))
    names = {package["name"].lower() for package in listed}
    assert "memorization-index" in names
    assert not names & {"torch", "transformers", "pandas", "pytest"}
    files = phantoms.write_cohort(tmp_path / "training", range(6))
    copy = tmp_path / "synthetic" / "copy.nii.gz"
    phantoms.write(copy, phantoms.anatomy(2)[3:9, :, ::-1])
    command = installed / "memorization-index"
    assert "spectral" in run(command, "encoders", cwd=tmp_path)
    run(command, "build", "training", "--out", "reference", cwd=tmp_path)
    run(command, "score", "reference", "synthetic", "--out", "result", cwd=tmp_path)
    with (tmp_path / "result" / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        [row] = csv.DictReader(stream)
    assert (row["verdict"], row["match_subject"]) == ("copy", "sub-02")
    assert row["match_volume"] == files[2].relative_to(tmp_path / "training").as_posix()
    assert (tmp_path / "result" / "report.html").stat().st_size > 1000


def test_without_torch_a_deep_encoder_says_what_to_install(installed, tmp_path):
    build = [installed / "memorization-index", "build", tmp_path, "--out", tmp_path / "r", "--encoder"]
    phantoms.write(tmp_path / "a.nii.gz", phantoms.anatomy(0)[4:7])
    (tmp_path / "some.pth").write_bytes(b"weights")
    for encoder, said in (
        (["mri-core", "--weights", tmp_path / "some.pth"], "pip install '.[torch]'"),
        (["mri-core", "--weights", tmp_path / "none.pth"], "none.pth: is not there"),
        (["mri-cor"], "'mri-cor': is not known; expected 'spectral', 'mri-core' or 'hf:DIR'"),
        (["hf:nowhere"], "nowhere: is not a folder"),
    ):
        done = subprocess.run([*map(str, build + encoder)], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr
