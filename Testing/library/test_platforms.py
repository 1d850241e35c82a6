"""What other systems do differently: paths, processes that are spawned, modules that only POSIX has."""

import ast
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import memorization_index
import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference
from memorization_index.cohort import _names, _Row
from memorization_index.verification import below

PACKAGE = Path(memorization_index.__file__).parent
#: In Python on Linux or macOS, not on Windows.
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


@pytest.mark.parametrize(
    "built",
    [
        r"C:\scans\sub-01\anat\sub-01_T1w.nii.gz",
        r"\\server\share\scans\sub-01\anat\sub-01_T1w.nii.gz",
        r"D:\sub-01\anat\sub-01_T1w.nii.gz",
        "/Volumes/MR scans/sub-01/anat/sub-01_T1w.nii.gz",
        "scans/sub-01/anat/sub-01_T1w.nii.gz",
    ],
)
def test_a_training_file_is_found_again_wherever_the_reference_was_built(built, tmp_path):
    here = tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    decoy = tmp_path / "sub-01_T1w.nii.gz"  # of the same name: the longest tail counts
    here.parent.mkdir(parents=True)
    here.touch()
    decoy.touch()
    assert below(tmp_path, Path(built)) == here


def test_paths_of_a_reference_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.nii"
    outside.write_bytes(b"x")
    (tmp_path / "root").mkdir()
    for path in ("/data/../../outside.nii", "../outside.nii", "..", str(outside)):
        assert not below(tmp_path / "root", Path(path)).is_file()


def test_volumes_are_named_with_slashes_on_windows():
    files = [PureWindowsPath(rf"C:\data\sub-0{i}\scan.nii.gz") for i in (1, 2)]
    rows = [_Row((path,), path.relative_to(r"C:\data").as_posix()) for path in files]
    assert _names(rows) == ["sub-01/scan.nii.gz", "sub-02/scan.nii.gz"]


def _score_in_child(arguments: tuple[Path, Path]) -> tuple[int, np.ndarray]:
    reference, queries = arguments
    return os.getpid(), Reference.open(reference).score(queries).slices["similarity"]


def _fail_in_child(folder: Path) -> None:
    Reference.open(folder)


def test_a_spawned_process_gives_the_same_numbers(tiny):
    here = Reference.open(tiny.reference).score(tiny.training).slices["similarity"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pid, there = pool.apply(_score_in_child, [(tiny.reference, tiny.training)])
    assert pid != os.getpid()
    np.testing.assert_allclose(there, here, atol=1e-6)


def test_an_error_comes_back_from_a_spawned_process(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool, pytest.raises(MemorizationIndexError, match="build"):
        pool.apply(_fail_in_child, [tmp_path])


def _imported(tree: ast.Module) -> set[str]:
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names}


def test_no_file_needs_a_module_that_windows_lacks():
    needed = {
        path.name: found
        for path in PACKAGE.rglob("*.py")
        if (found := _imported(ast.parse(path.read_text(encoding="utf-8"))) & POSIX_ONLY)
    }
    assert needed == {"durable.py": {"fcntl"}}  # behind a question for the platform, beside msvcrt


_AS_ON_WINDOWS = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="memorization_index")
from memorization_index.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_files_are_written_and_read_whatever_the_system_encodes_in(tmp_path):
    """As on Windows, where the default encoding is not UTF-8: no file is opened without saying its encoding."""
    folder = tmp_path / "Köpfe"
    for subject in range(3):
        phantoms.write(folder / f"sub-{subject}é.nii.gz", phantoms.anatomy(subject)[4:7])
    environment = {**os.environ, "PYTHONWARNDEFAULTENCODING": "1", "PYTHONPATH": str(PACKAGE.parent)}
    for arguments in (
        ["build", folder, "--out", tmp_path / "ré"],
        ["score", tmp_path / "ré", folder, "--out", tmp_path / "s"],
    ):
        command = [sys.executable, "-c", _AS_ON_WINDOWS, *map(str, arguments), "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert "sub-0é" in (tmp_path / "s" / "volumes.csv").read_text(encoding="utf-8")
