"""Lets the site show what lies beside ``docs``: pictures are copied, other links lead to the repository."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PICTURES = "Resources/Screenshots"


def on_files(files, config):
    """Add the screenshots, which the extension shows too, to the site."""
    for path in sorted((ROOT / PICTURES).glob("*.png")):
        files.append(File(f"{PICTURES}/{path.name}", str(ROOT), config["site_dir"], use_directory_urls=True))
    return files


def on_page_markdown(markdown, config, **_unused):
    """Lead ``../`` out of ``docs`` to where it is in the site or in the repository."""
    elsewhere = config["repo_url"].rstrip("/") + "/blob/main/"
    inside = re.sub(rf"\]\(\.\./({PICTURES}/[^)]+)\)", r"](\1)", markdown)
    return re.sub(r"\]\(\.\./([^)]+)\)", rf"]({elsewhere}\1)", inside)
