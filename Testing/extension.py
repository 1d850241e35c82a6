"""The extension's files against each other: CMake lists, the Extensions Index entry, the tree and the README.

``python3 Testing/extension.py`` prints what disagrees and exits with 1 if anything does; ``--write`` brings the CMake
lists up to date with the tree first. ``install`` copies what Slicer would install.
"""

import json
import re
import shutil
import struct
import sys
from pathlib import Path

import conventions

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "MemorizationIndex"
TESTS = ROOT / "Testing" / "slicer"
# The index's schema (v1.0.1) allows these keys and no others.
KEYS = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip
# What the index shows of an extension, and the categories that it has.
_SAID = ("EXTENSION_CONTRIBUTORS", "EXTENSION_DESCRIPTION", "EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS")
#: Where the address of the repository is written.
ADDRESSED = (
    "CMakeLists.txt", "MemorizationIndex.json", "CITATION.cff", "mkdocs.yml",
    "MemorizationIndex/MemorizationIndexLib/SampleScans.py",
)  # fmt: skip
_CATEGORIES = {
    "Analysis", "Cardiac", "Diffusion", "Filtering", "IGT", "Informatics", "Quantification", "Registration",
    "Segmentation", "Shape Analysis", "Utilities",
}  # fmt: skip


def variables(path: Path) -> dict[str, str]:
    """Every ``set(NAME value)`` of a CMake file, quotes taken off."""
    text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    return {name: value.strip().strip('"') for name, value in re.findall(r'set\((\w+)\s+("[^"]*"|[^)]*)\)', text)}


def listed(path: Path, name: str) -> list[str]:
    """The files that a CMake list names."""
    known = variables(path)
    return known.get(name, "").replace("${MODULE_NAME}", known.get("MODULE_NAME", "")).split()


def tree() -> dict[str, list[str]]:
    """What the lists must hold: every Python file and every resource of the module, every test for the application."""
    files = [p.relative_to(MODULE).as_posix() for p in MODULE.rglob("*") if p.is_file()]
    files = sorted(f for f in files if "__pycache__" not in f and ".egg-info" not in f and f != "CMakeLists.txt")
    return {
        "MODULE_PYTHON_SCRIPTS": [f for f in files if f.endswith(".py")],
        "MODULE_PYTHON_RESOURCES": [f for f in files if not f.endswith(".py")],
        "TESTS": sorted(p.name for p in TESTS.glob("test_*.py")),
    }


def cmake_file(name: str) -> Path:
    """The CMake file that has the list."""
    return (TESTS if name == "TESTS" else MODULE) / "CMakeLists.txt"


def write() -> None:
    """Replace the CMake lists by what is in the tree."""
    for name, files in tree().items():
        path = cmake_file(name)
        text = path.read_text(encoding="utf-8")
        lines = "".join(f"  {file}\n" for file in files)
        text = re.sub(rf"(set\({name}\n)[^)]*(  \))", lambda m, lines=lines: m[1] + lines + m[2], text)
        path.write_text(text, encoding="utf-8", newline="\n")


def install(folder: Path) -> Path:
    """Copy the listed files, and nothing else, into ``folder``; returns the installed module file."""
    for name in ("MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"):
        for file in listed(MODULE / "CMakeLists.txt", name):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(MODULE / file, target)
    return folder / "MemorizationIndex.py"


def problems() -> list[str]:
    """One sentence for everything that disagrees."""
    return [*_lists(), *_entry(), *_description(), *_pictures(), *_addresses(), *_readme(), *conventions.findings()]


def _lists() -> list[str]:
    found = []
    for name, files in tree().items():
        path = cmake_file(name)
        names = listed(path, name)
        where = path.relative_to(ROOT)
        found += [f"{where}: {name} lacks {file}" for file in files if file not in names]
        found += [f"{where}: {name} lists {file}, which is not there" for file in names if file not in files]
        found += [f"{where}: {name} lists {file} twice" for file in set(names) if names.count(file) > 1]
    return found


def _entry() -> list[str]:
    cmake = variables(ROOT / "CMakeLists.txt")
    path = ROOT / "MemorizationIndex.json"
    raw = path.read_bytes()
    entry = json.loads(raw)
    found = [f"{path.name}: unknown key {key}" for key in entry if key not in KEYS]
    found += [
        f"{path.name}: {key} is no {kind.__name__}"
        for key, kind in KEYS.items()
        if not isinstance(entry.get(key, kind()), kind)
    ]
    project = re.search(r"project\((\w+)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    expected = {
        "build_dependencies": cmake["EXTENSION_DEPENDS"].split(),
        "category": cmake["EXTENSION_CATEGORY"],
        "scm_url": cmake["EXTENSION_HOMEPAGE"] + ".git",
        "$schema": "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#",
        "tier": 1,
    }
    found += [
        f"{path.name}: {key} is {entry.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if entry.get(key) != value
    ]
    if project is None or project[1] != path.stem:
        found.append(f"CMakeLists.txt: project() is not {path.stem}")
    if not entry["scm_url"].removesuffix(".git").endswith("/Slicer" + path.stem):
        found.append(f"{path.name}: the repository is not called Slicer{path.stem}")
    found += [
        f"{p.relative_to(ROOT)}: has CR line ends" for p in (path, ROOT / "CMakeLists.txt") if b"\r" in p.read_bytes()
    ]
    return found


def _description() -> list[str]:
    cmake = variables(ROOT / "CMakeLists.txt")
    found = [f"CMakeLists.txt: {name} is empty" for name in _SAID if not cmake.get(name)]
    sentences = re.findall(r"[.!?](?:\s|$)", cmake["EXTENSION_DESCRIPTION"])
    if not 1 <= len(sentences) <= 2:
        found.append("CMakeLists.txt: EXTENSION_DESCRIPTION is not one or two sentences")
    if cmake["EXTENSION_CATEGORY"] not in _CATEGORIES:
        found.append(f"CMakeLists.txt: {cmake['EXTENSION_CATEGORY']} is no category of the index")
    return found


def _pictures() -> list[str]:
    cmake = variables(ROOT / "CMakeLists.txt")
    raw = cmake["EXTENSION_HOMEPAGE"].replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    found, icon = [], ROOT / cmake["EXTENSION_ICONURL"].removeprefix(raw)
    for url in (cmake["EXTENSION_ICONURL"], *cmake["EXTENSION_SCREENSHOTURLS"].split()):
        if not url.startswith(raw) or not (ROOT / url.removeprefix(raw)).is_file():
            found.append(f"CMakeLists.txt: {url} is no file of this repository")
    if icon.is_file() and struct.unpack(">II", icon.read_bytes()[16:24]) != (128, 128):
        found.append(f"{icon.relative_to(ROOT)}: is not 128 × 128 pixels")
    return found


def _addresses() -> list[str]:
    """Every address of the repository is that of EXTENSION_HOMEPAGE."""
    home = variables(ROOT / "CMakeLists.txt")["EXTENSION_HOMEPAGE"].removeprefix("https://github.com/")
    places = [ROOT / name for name in ADDRESSED]
    texts = {place: place.read_text(encoding="utf-8") for place in places}
    pattern = re.compile(r"(?:github|githubusercontent)\.com/([\w.-]+/SlicerMemorizationIndex)\b")
    found = [f"{place.name}: does not mention {home}" for place, text in texts.items() if not pattern.search(text)]
    return found + [
        f"{place.name}: has the address {address}, but EXTENSION_HOMEPAGE is {home}"
        for place, text in texts.items()
        for address in sorted(set(pattern.findall(text)) - {home})
    ]


def _readme() -> list[str]:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    cmake = variables(ROOT / "CMakeLists.txt")
    pictures = cmake["EXTENSION_SCREENSHOTURLS"].split()
    wanted = ["MemorizationIndex", "docs/slicer.md", "Apache", *(url.split("/main/")[1] for url in pictures)]
    return [f"README.md: does not mention {word}" for word in wanted if word not in text]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    disagreements = problems()
    print("\n".join(disagreements) or "CMake, index entry, tree and README agree.")
    sys.exit(bool(disagreements))
