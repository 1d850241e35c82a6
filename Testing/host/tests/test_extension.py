"""The extension as Slicer installs it: the listed files only, with Slicer's packages only."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import extension
import pytest

ROOT = Path(__file__).resolve().parents[3]
# What Slicer 5.10 and later bring, as far as the module uses it.
SLICER = ["numpy", "scipy", "SimpleITK", "pydicom", "pillow"]
# What this host needs to be a Slicer.
HOST = ["slicer-core", "vtk", "PySide6-Essentials", "shiboken6"]
MISSING_IN_SLICER = ["torch", "transformers", "faiss", "pandas", "rich", "matplotlib", "pytest", "memorization_index"]


def test_lists_entry_tree_and_readme_agree():
    assert extension.problems() == []


def test_disagreement_is_found(monkeypatch):
    files = {"MODULE_PYTHON_SCRIPTS": ["a.py"], "MODULE_PYTHON_RESOURCES": [], "TESTS": []}
    monkeypatch.setattr(extension, "tree", lambda: files)
    found = extension.problems()
    assert any("lacks a.py" in problem for problem in found)
    assert any("lists Resources/requirements.txt, which is not there" in problem for problem in found)


def test_another_address_is_found(monkeypatch):
    cmake = extension.variables(extension.ROOT / "CMakeLists.txt")
    moved = {**cmake, "EXTENSION_HOMEPAGE": "https://github.com/someone/SlicerMemorizationIndex"}
    monkeypatch.setattr(extension, "variables", lambda _path: moved)
    found = [problem.partition(":")[0] for problem in extension._addresses()]
    assert found == [name.rpartition("/")[2] for name in extension.ADDRESSED]


def link_packages(folder, names):
    """Make ``folder`` a site-packages folder with the installed distributions ``names`` and no others."""
    folder.mkdir()
    for name in names:
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if not file.parts[0].startswith("..")}
        for top in tops - {"__pycache__"}:
            target = Path(distribution.locate_file(top))
            if target.exists() and not (folder / top).exists():
                (folder / top).symlink_to(target)
    return folder


def consented():
    """The packages that the consent line names."""
    lines = (extension.MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [re.split(r"[>=<]", line)[0] for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture
def run(tmp_path):
    """Run a script in a host that has the installed extension and the given packages."""

    def run_script(source, packages):
        site = link_packages(tmp_path / "site", packages)
        extension.install(tmp_path / "MemorizationIndex")
        script = tmp_path / "script.py"
        script.write_text(source, encoding="utf-8")
        command = [sys.executable, "-S", ROOT / "Testing" / "host" / "__main__.py"]
        command += ["--additional-module-paths", tmp_path / "MemorizationIndex", "--python-script", script]
        environment = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_script


def test_installed_it_finds_a_copy_with_what_slicer_has(run):
    source = f"""
import importlib.util, subprocess, sys
import slicer
names = {MISSING_IN_SLICER!r}
code = f"import importlib.util; print([n for n in {{names!r}} if importlib.util.find_spec(n)])"
print("WORKER HAS", subprocess.run(["PythonSlicer", "-c", code], capture_output=True, text=True).stdout)
slicer.util.getModuleWidget("MemorizationIndex")
slicer.selfTests["MemorizationIndex"]()
print("PASSED FROM", sys.modules["MemorizationIndexLib"].__file__)
"""
    output = run(source, [*SLICER, *consented(), *HOST])
    assert "WORKER HAS []" in output
    assert re.search(r"PASSED FROM .*/test_installed_it_finds.*/MemorizationIndex/MemorizationIndexLib", output)


def test_what_is_missing_is_said_and_nothing_starts(run):
    source = """
from pathlib import Path
import slicer
widget = slicer.util.getModuleWidget("MemorizationIndex")
ui = slicer.util.childWidgetVariables(widget.parent)
print("LINE", ui.installLabel.text, ui.installButton.isVisibleTo(widget.parent))
print("BUTTONS", ui.applyButton.enabled, ui.buildButton.enabled)
print("INSTALLED IN TESTING", widget.logic.installer.install())
try:
    widget.logic.score([], Path("reference"))
except ValueError as error:
    print("SCRIPT", error)
"""
    output = run(source, [*SLICER, *HOST])
    line = "Python packages to be installed from PyPI first: safetensors (0.5 MB)."
    assert f"LINE {line} True" in output
    assert "BUTTONS False False" in output
    assert "INSTALLED IN TESTING False" in output
    assert f"SCRIPT {line}" in output
