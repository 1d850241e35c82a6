"""What the Extensions Index asks of a module up to tier 5, as far as files can show it.

Tests of behavior (nothing is installed without a yes, no network, the module installed by its lists and run) are in
``Testing/slicer`` and ``Testing/host``; that it builds on three systems and runs in the application is not shown here.
"""

import ast
import hashlib
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "MemorizationIndex"
# Pop-ups: only questions are allowed, to consent or before something is lost.
_POPUPS = re.compile(
    r"\b(errorDisplay|warningDisplay|infoDisplay|messageBox|delayDisplay|tryWithErrorDisplay|QMessageBox|QErrorMessage)\b"
)
# What could send something; none is allowed, so that nothing is sent without being asked.
_SENDING = {"aiohttp", "ftplib", "http", "httpx", "requests", "smtplib", "socket", "telnetlib", "urllib3", "xmlrpc"}
_TEXT = {".py", ".md", ".txt", ".ui", ".json", ".toml", ".yml", ".yaml", ".cff", ".cmake"}
# What may stand in a path on every system, and how long it may be below an installation folder (Windows).
_PORTABLE, _LONGEST = re.compile(r"[A-Za-z0-9._/-]+"), 120
_SECTIONS = ("## 3D Slicer", "## Publication and license")


def findings() -> list[str]:
    """One sentence for everything that falls short."""
    return [*_readme(), *_links(), *_sources(), *_sample_data(), *_files()]


def tracked() -> list[Path]:
    """The project's own files: nothing hidden, built or cached."""
    skipped = {"build", "dist", "site", "__pycache__", "memorization-index-demo"}
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(p.startswith(".") or p in skipped or p.endswith(".egg-info") for p in path.relative_to(ROOT).parts)
    ]


def _readme() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [f"README.md: has no section {title!r}" for title in _SECTIONS if title not in text]
    if not re.match(r"# MemorizationIndex\n\n\w", text):
        found.append("README.md: does not begin with the name and what it is")
    if "arXiv" not in text or "Apache-2.0" not in text:
        found.append("README.md: does not name the publication or the license")
    if "Apache License" not in (ROOT / "LICENSE").read_text(encoding="utf-8"):
        found.append("LICENSE: is not the Apache License")
    return found


def _links() -> list[str]:
    """Links and pictures of Markdown files that lead to no file of the repository."""
    found = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            place = target.partition("#")[0]
            if place and "://" not in place and not (page.parent / place).exists():
                found.append(f"{page.relative_to(ROOT)}: leads to {target}, which is not there")
    return found


def _sources() -> list[str]:
    found = []
    for path in sorted(MODULE.rglob("*.py")):
        where, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        imported = {a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {(n.module or "").partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        found += [f"{where}: imports {name}, which can send" for name in sorted(imported & _SENDING)]
        if path.parent.name == "MemorizationIndexLib" or path.parent == MODULE:
            shown = [
                name for name in _POPUPS.findall(text) if (path.name, name) != ("MemorizationIndex.py", "delayDisplay")
            ]
            found += [f"{where}: pops up ({name}); say it in the panel" for name in sorted(set(shown))]
        if path.name == "Logic.py" and imported & {"qt", "ctk"}:
            found.append(f"{where}: the logic imports widgets")
    return found


def _sample_data() -> list[str]:
    """The registered checksums against the repository's files."""
    text = (MODULE / "MemorizationIndexLib" / "SampleScans.py").read_text(encoding="utf-8")
    stated = dict(re.findall(r'"(\w+)": "([0-9a-f]{64})"', text))
    folder = ROOT / "Resources" / "SampleData"
    kept = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.nrrd")}
    names = sorted(name for name in {*stated, *kept} if stated.get(name) != kept.get(name))
    return [f"Resources/SampleData/{name}.nrrd: its SHA-256 is not the registered one" for name in names]


def _files() -> list[str]:
    paths = tracked()
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    found = [f"{name}: is no name or length for every system" for name in names if not _portable(name)]
    same = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    found += [f"{name}: differs from another file in its case only" for name in same]
    texts = [path for path in paths if path.suffix in _TEXT or path.name == "CMakeLists.txt"]
    return found + [f"{p.relative_to(ROOT)}: has CR line ends" for p in texts if b"\r" in p.read_bytes()]


def _portable(name: str) -> bool:
    return bool(_PORTABLE.fullmatch(name)) and len(name) <= _LONGEST
