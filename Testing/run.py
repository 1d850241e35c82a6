"""The README's test command: makes a virtual environment, installs the project into it, runs lint, types and tests.

``python3 Testing/run.py [pytest arguments]``. The environment (``.venv-test``) is kept and only made anew when
``pyproject.toml`` changes.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-test"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def run(*command: object) -> None:
    """Run a command in the project's root and stop at its first failure."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    code = subprocess.run(words, cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def prepare() -> None:
    """Install what the tests need, once for each state of ``pyproject.toml``."""
    stamp = VENV / "installed"
    state = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == state:
        return
    run(sys.executable, "-m", "venv", "--clear", VENV)
    # torch first: 2.13.0 satisfies every later range, and its plain wheel is the CPU build where an index offers one.
    run(PYTHON, "-m", "pip", "install", "--quiet", "torch==2.13.0")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--editable", ".[test,slicer-test]")
    stamp.write_text(state)


if __name__ == "__main__":
    prepare()
    run(PYTHON, "-m", "ruff", "format", "--check", ".")
    run(PYTHON, "-m", "ruff", "check", ".")
    run(PYTHON, "-m", "mypy")
    # Slicer's Python is 3.12; tests run on this one. (UP would ask for syntax that 3.11 does not have.)
    run(PYTHON, "-m", "ruff", "check", "--target-version", "py312", "--extend-ignore", "UP", ".")
    run(PYTHON, "-m", "mypy", "--python-version", "3.12")
    run(PYTHON, "Testing/extension.py")
    if sys.argv[1:]:
        run(PYTHON, "-m", "pytest", *sys.argv[1:])
    else:
        run(PYTHON, "-m", "pytest", "Testing/library")
        # In a process of its own: the host changes Qt's classes into what PythonQt makes of them.
        run(PYTHON, "-m", "pytest", "Testing/slicer")
        run(PYTHON, "-m", "pytest", "Testing/host")  # its pictures are of an application that was just started
