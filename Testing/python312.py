"""Whether every dependency has a wheel for Python 3.12, which is what Slicer brings and what is not at hand here.

``python3 Testing/python312.py [extra …]`` downloads the wheels of the dependencies and of the named extras (by
default all but those that only develop the project) with all that they need in turn, for Python 3.12 on this platform,
never building one from source. It prints what came down and exits with pip's code.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = {"test", "slicer-test", "docs"}


def requirements(extras: list[str]) -> list[str]:
    """The requirements of the project and of the named extras, those of extras named within extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    own = [line for line in wanted if line.startswith(project["name"] + "[")]
    inner = [name for line in own for name in line.partition("[")[2].rstrip("]").split(",")]
    plain = [line for line in wanted if line not in own]
    return sorted({*plain, *(requirements(inner) if inner else [])})


def all_extras() -> list[str]:
    """The extras that a user may install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in DEVELOPMENT]


def download(wanted: list[str], folder: str) -> int:
    """Download wheels for Python 3.12; pip's exit code."""
    # The same torch as in Testing/run.py: its plain wheel is the CPU build where an index offers one.
    pinned = [f"{line},==2.13.0" if line.startswith("torch>") else line for line in wanted]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--python-version", "3.12"]
    return subprocess.run([*command, "--only-binary=:all:", "--dest", folder, *pinned], check=False).returncode


if __name__ == "__main__":
    lines = requirements(sys.argv[1:] or all_extras())
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as target:
        code = download(lines, target)
        wheels = sorted(path.name for path in Path(target).iterdir())
        print("\n".join(wheels))
        print(f"{len(lines)} requirements, {len(wheels)} wheels for Python 3.12" if not code else "Not all were found.")
    sys.exit(code)
