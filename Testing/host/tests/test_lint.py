"""The lint finds what it is for, and finds nothing in the module."""

from pathlib import Path

import pytest
from host import lint

MODULE = Path(__file__).resolve().parents[3] / "MemorizationIndex"
FORM = lint.forms(MODULE / "Resources" / "UI" / "MemorizationIndex.ui")
FILES = [MODULE / "MemorizationIndex.py", *sorted((MODULE / "MemorizationIndexLib").glob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_module_is_clean(path):
    assert lint.check(path.read_text(encoding="utf-8"), path.name, FORM) == []


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import torch", "torch is imported when the file loads"),
        ("from faiss import IndexFlat", "faiss is imported when the file loads"),
        ("def f():\n    from PySide6 import QtCore", "PySide6 is not in Slicer"),
        ("qt.Signal()", "PythonQt has no qt.Signal"),
        ("qt.QRegExp('a')", "PythonQt has no qt.QRegExp"),
        ("qt.QPushButtom()", "PythonQt has no qt.QPushButtom"),
        ("qt.Qt.CheckState.Checked", "unscoped enumerations only: qt.Qt.Checked"),
        ("qt.QLabel(text='a')", "no keyword arguments"),
        ("self.ui.aplyButton.click()", "no widget aplyButton"),
        ("self.ui.statusLabel.txt = _('a')", "QLabel has no txt"),
        ("print(ui.statusLabel.text())", "is a property in PythonQt"),
        ("ui.statusLabel.setText = 3", "is a method"),
        ("ui.referencePath.currentpath", "ctkPathLineEdit has no currentpath"),
        ("ui.statusLabel.text = 'Done'", "not translated"),
        ("raise MemorizationIndexError(f'{a}: bad')", "not translated"),
        ("raise MemorizationIndexError('bad')", "not translated"),
        ("_(f'{a}: bad')", "_() needs a plain string"),
        ("def f():\n" + "    pass\n" * 60, "has 61 lines"),
    ],
)
def test_it_finds(source, finding):
    findings = lint.check(source, "file.py", FORM)
    assert len(findings) == 1
    assert finding in findings[0]


def test_what_is_right_passes():
    source = "import numpy\nui.statusLabel.text = _('{n}').format(n=1)\nx = qt.Qt.Checked\nui.applyButton.setText(x)\n"
    assert lint.check(source, "file.py", FORM) == []


def test_newer_syntax_than_slicer_has_is_refused():
    with pytest.raises(SyntaxError):
        lint.check("type A = int", "file.py", FORM)
