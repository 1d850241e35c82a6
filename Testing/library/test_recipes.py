"""What is not executed here (conda recipe, container file) at least agrees with the project."""

import re
import tomllib
from pathlib import Path

from memorization_index import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = (ROOT / "distribution" / "conda" / "meta.yaml").read_text(encoding="utf-8")
CONTAINER = (ROOT / "distribution" / "Containerfile").read_text(encoding="utf-8")


def section(name):
    """The requirements that the recipe lists under ``run:`` or ``host:``, without blanks."""
    lines = re.search(rf"^  {name}:\n((?:    - .*\n)+)", CONDA, re.MULTILINE)[1]
    return {line.strip().removeprefix("- ").replace(" ", "").lower() for line in lines.splitlines()}


def test_the_conda_recipe_requires_what_the_project_does():
    own = {f"python{PROJECT['requires-python']}", *(line.replace(" ", "").lower() for line in PROJECT["dependencies"])}
    assert section("run") == own
    assert f"python{PROJECT['requires-python']}" in section("host")


def test_the_conda_recipe_has_version_and_entry_point():
    assert f'set version = "{__version__}"' in CONDA
    [(name, target)] = PROJECT["scripts"].items()
    assert f"- {name} = {target}" in CONDA
    assert PROJECT["license"] in CONDA


def test_the_container_copies_what_is_there_and_starts_the_command():
    copied = [word for line in re.findall(r"^COPY (.*)", CONTAINER, re.MULTILINE) for word in line.split()[:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "MemorizationIndex/memorization_index"}
    assert needed <= set(copied)
    assert re.search(r'ENTRYPOINT \["(.*)"\]', CONTAINER)[1] in PROJECT["scripts"]


def test_both_say_that_they_were_not_executed():
    assert "NOT EXECUTED" in CONDA
    assert "NOT EXECUTED" in CONTAINER
