"""Training volumes that are no longer where they were: found by name, by their voxels, or named by a table."""

import shutil
from pathlib import Path

import phantoms
import pytest
from memorization_index import Reference, Scores
from memorization_index.errors import MemorizationIndexError
from memorization_index.linking import linked_files


@pytest.fixture
def moved(tiny, tmp_path: Path):
    """A reference whose training files are gone from where they were; they lie in ``elsewhere`` under other names."""
    training, elsewhere = tmp_path / "training", tmp_path / "elsewhere"
    shutil.copytree(tiny.training, training)
    Reference.build(training, tmp_path / "reference", power="none")
    elsewhere.mkdir()
    for number, path in enumerate(sorted(training.iterdir())):
        image = phantoms.sitk.ReadImage(str(path))
        phantoms.sitk.WriteImage(image, str(elsewhere / f"scan {number}.nrrd"))
    training.rename(tmp_path / "gone")
    return tmp_path


def classes(folder: Path, training_root: Path | None) -> set[str]:
    scores: Scores = Reference.open(folder / "reference").score(
        folder / "gone" / "sub-01.nii.gz", training_root=training_root
    )
    return set(scores.slices["match_class"])


def test_files_of_other_names_are_found_by_their_voxels(moved: Path) -> None:
    assert classes(moved, None) == {""}
    assert classes(moved, moved / "elsewhere") == {"exact"}
    files = linked_files(moved / "reference", moved / "elsewhere", None)
    assert files["sub-01.nii.gz"] == (moved / "elsewhere" / "scan 1.nrrd",)


def test_a_table_names_some_and_the_others_are_where_they_were(moved: Path) -> None:
    table = moved / "elsewhere" / "files.csv"
    table.write_text("path,volume\nscan 1.nrrd,sub-01.nii.gz\n", encoding="utf-8")
    (moved / "training").mkdir()
    for subject in ("sub-00", "sub-02"):
        shutil.copy(moved / "gone" / f"{subject}.nii.gz", moved / "training")
    assert classes(moved, table) == {"exact"}


def test_a_pseudonymized_reference_needs_its_key(tiny, tmp_path: Path) -> None:
    Reference.build(tiny.training, tmp_path / "sealed", power="none", key=tmp_path / "key")
    with pytest.raises(MemorizationIndexError, match="is pseudonymized; expected the key with --key"):
        linked_files(tmp_path / "sealed", tiny.training, None)
