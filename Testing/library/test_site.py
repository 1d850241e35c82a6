"""The documentation: its site builds without network, its links lead somewhere, its code runs, its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import phantoms
import pytest
from memorization_index import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Pages whose Python runs, all blocks of a page one after the other. (slicer.md's runs in Testing/slicer.)
RUNNING = ["engineer.md", "adding-an-encoder.md"]
NEEDS = {"lightning.pytorch": "lightning", "monai_handler": "ignite", "integrations.metric": "torchmetrics"}


def blocks(page, language):
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


# --- Code ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(training, tmp_path, monkeypatch):
    """A folder as the pages assume it: training scans, and a synthetic volume that is a copy."""
    (tmp_path / "training").symlink_to(training)
    (tmp_path / "synthetic").mkdir()
    phantoms.write(tmp_path / "synthetic" / "made.nii.gz", phantoms.anatomy(3)[3:9, :, ::-1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", RUNNING)
def test_a_pages_python_runs(name, workspace, capsys):
    variables = {}
    for code in blocks(ROOT / "docs" / name, "python"):
        lacking = [package for sign, package in NEEDS.items() if sign in code and not _present(package)]
        if lacking:
            continue
        exec(compile(code, f"docs/{name}", "exec"), variables)
    printed = capsys.readouterr().out
    if name == "engineer.md":
        assert "made.nii.gz copy" in printed
        assert "[0 1 2 3 4]" in printed
    else:
        assert "'small.mean': 1" in printed
        assert "[0 1 2]" in printed


def _present(package):
    try:
        __import__(package)
    except ImportError:
        return False
    return True


def test_the_readmes_python_runs(workspace):
    for code in blocks(ROOT / "README.md", "python"):
        exec(compile(code, "README.md", "exec"), {})
    assert (workspace / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    parser = cli._parser()
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        if "…" in line or "COMMAND" in words:
            continue
        assert _understood(parser, words), line


def _understood(parser, words):
    try:
        parser.parse_args(words)
    except SystemExit as stop:
        return stop.code == 0  # --help, --version
    return True


def commands(page):
    """Every ``memorization-index …`` of a page's shell blocks, lines that go on joined."""
    for block in blocks(page, "sh"):
        for line in re.split(r"\n|&&|;", block.replace("\\\n", " ")):
            words = line.split()
            if words and words[0].rpartition("/")[2] == "memorization-index":
                yield line.strip()


def test_there_are_commands_to_check():
    assert sum(1 for page in PAGES for _ in commands(page)) >= 8


@pytest.mark.parametrize(
    "page", [*PAGES, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG"))], ids=lambda page: page.name
)
def test_lines_are_no_longer_than_those_of_the_code(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 120 and " " in line]
    assert [line for line in long if not line.lstrip().startswith(("|", "!["))] == []


# --- The site --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page of the site refers to, and the anchors that it has."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.add(values.get("id"))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("img", "script", "iframe", "source") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; whoever wanted the network would meet a closed port."""
    pytest.importorskip("mkdocs", reason="needs memorization-index[docs]")
    pytest.importorskip("mkdocstrings", reason="needs memorization-index[docs]")
    folder = tmp_path_factory.mktemp("site")
    closed = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    # No --quiet: it keeps warnings from being counted, so that --strict would pass whatever they are.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **closed, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site):
    for page in (ROOT / "docs").glob("*.md"):
        target = site / "index.html" if page.stem == "index" else site / page.stem / "index.html"
        assert target.is_file(), page.name


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            place, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.exists() or (anchor and known and anchor not in known.anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {source for path in site.rglob("*.html") for source in Page(path).loaded}
    assert [source for source in loaded if re.match(r"(https?:)?//", source)] == []


def test_the_api_is_documented_from_its_docstrings(site):
    text = (site / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("Reference.build", "Scores.to_html", "MemorizationDetector.fit", "CopiedFraction", "load_encoder"):
        assert 'id="memorization_index.' in text
        assert name.rpartition(".")[2] in text
    assert "Fit a training set" in text


def test_docstrings_are_shown_without_their_markup(site):
    text = (site / "api" / "index.html").read_text(encoding="utf-8")
    # Markdown leaves a role that is not understood as it is, and makes code of what it is about.
    assert re.findall(r".{20}:[a-z]{3,6}:(?:<code>|`).{20}", text) == []
    assert re.findall(r"\w::\s*</", text) == []
    error = '<a [^>]*href="#memorization_index.errors.MemorizationIndexError"><code>MemorizationIndexError</code></a>'
    assert re.search(error, text), "a role leads to what it names"
    assert "Example:</p>" in text
