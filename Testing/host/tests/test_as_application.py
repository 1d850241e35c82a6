"""The tests for the application run there: as plain unittest, started by Slicer's command line, without pytest."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2] / "slicer"
FILES = sorted(path for path in TESTS.glob("*.py") if path.name != "conftest.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_of_the_host_is_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & {"pytest", "host", "PySide6", "slicer_core", "extension"}


def test_they_run_as_ctest_starts_them(tmp_path):
    script = tmp_path / "run.py"
    names = [path.stem for path in FILES if path.name.startswith("test_")]
    script.write_text(
        f"""
import sys, unittest
sys.path.append({str(TESTS)!r})
for name in {names!r}:
    print(name, unittest.TestLoader().loadTestsFromName(name).countTestCases())
suite = unittest.TestLoader().loadTestsFromName("test_volume_writer")
result = unittest.TextTestRunner(verbosity=2).run(suite)
print("PYTEST", "pytest" in sys.modules, "RUN", result.testsRun, "PASSED", result.wasSuccessful())
""",
        encoding="utf-8",
    )
    module = TESTS.parents[1] / "MemorizationIndex"
    command = [sys.executable, TESTS.parent / "host" / "__main__.py", "--no-splash", "--testing", "--no-main-window"]
    command += ["--additional-module-paths", module, "--python-script", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    counts = dict(
        line.split() for line in done.stdout.splitlines() if line.startswith("test_") and len(line.split()) == 2
    )
    assert set(counts) == set(names)
    assert all(int(count) > 0 for count in counts.values())
    assert f"PYTEST False RUN {counts['test_volume_writer']} PASSED True" in done.stdout
