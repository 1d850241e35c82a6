"""Each thing that the Extensions Index asks for is missed where it is missing."""

import conventions
import pytest

FAULTS = {
    "README.md": (
        "MemorizationIndex\n[gone](docs/gone.md)\n",
        ["README.md: does not begin", "## 3D Slicer", "docs/gone.md"],
    ),
    "LICENSE": ("All rights reserved.", ["LICENSE: is not the Apache License"]),
    "docs/a page.md": ("text\r\n", ["docs/a page.md: is no name", "docs/a page.md: has CR line ends"]),
    "docs/A.md": ("", []),
    "docs/a.md": ("```sh\n[not a link](nowhere)\n```\n", ["docs/a.md: differs from another file in its case only"]),
    "MemorizationIndex/MemorizationIndexLib/Logic.py": ("import qt\n", ["Logic.py: the logic imports widgets"]),
    "MemorizationIndex/MemorizationIndexLib/Other.py": (
        "from urllib3 import PoolManager\nimport slicer\nslicer.util.errorDisplay('no')\n",
        ["Other.py: imports urllib3", "Other.py: pops up (errorDisplay)"],
    ),
    "MemorizationIndex/MemorizationIndexLib/SampleScans.py": (
        f'SCANS = {{"One": "{64 * "0"}"}}\n',
        ["One.nrrd: its SHA-256"],
    ),
    "Resources/SampleData/One.nrrd": ("NRRD", []),
}


@pytest.fixture
def found(tmp_path, monkeypatch):
    for name, (text, _) in FAULTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    monkeypatch.setattr(conventions, "ROOT", tmp_path)
    monkeypatch.setattr(conventions, "MODULE", tmp_path / "MemorizationIndex")
    return "\n".join(conventions.findings())


@pytest.mark.parametrize("sentence", [sentence for _, sentences in FAULTS.values() for sentence in sentences])
def test_every_fault_is_found(found, sentence):
    assert sentence in found


def test_nothing_else_is_found(found):
    assert "not a link" not in found
    assert "nowhere" not in found


def test_the_project_has_none():
    assert conventions.findings() == []
