"""A reference that grew, or was joined from parts, is the one that a single build of everything gives."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference
from memorization_index.cli import main
from memorization_index.progress import Progress

SUBJECTS = range(5)
#: The parts interleave in the order of names, so that rows have to be put in order, not only one after the other.
EARLY, LATE = (0, 3, 4), (1, 2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("cohort")
    for subject in SUBJECTS:
        part = folder / ("early" if subject in EARLY else "late")
        name = part / f"sub-{subject:02d}" / f"sub-{subject:02d}_T1w.nii.gz"
        phantoms.write(name, phantoms.anatomy(subject)[4:6])
    # A second scan of somebody who is in the other part, and a file that cannot be read.
    phantoms.write(folder / "late" / "sub-03" / "sub-03_T2w.nii.gz", phantoms.anatomy(63)[4:7])
    (folder / "late" / "broken.nii.gz").write_text("broken")
    for part in ("early", "late"):
        Reference.build(folder / part, out=folder / f"{part}-reference", power="none")
    Reference.build([folder / "early", folder / "late"], out=folder / "full-reference", power="none")
    return SimpleNamespace(
        folder=folder,
        early=folder / "early-reference",
        late=folder / "late-reference",
        full=folder / "full-reference",
        new=folder / "late",
    )


class Watched(Progress):
    """Remembers the stages of the work."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str] = []

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.stages.append(stage)
        super().begin(stage, total, unit)


def assert_same(folder: Path, expected: Path) -> None:
    """Same volumes, rows, features, whitening, null and thresholds; numbers to 1e-6."""
    one, other = Reference.open(folder), Reference.open(expected)
    assert one.volumes == other.volumes
    np.testing.assert_array_equal(one.slice_volume, other.slice_volume)
    np.testing.assert_array_equal(one.slice_number, other.slice_number)
    for channel, shards in other.features.items():
        np.testing.assert_array_equal(np.concatenate(one.features[channel]), np.concatenate(shards))
        for name in ("mean", "matrix"):
            mine, its = (getattr(r.whitenings[channel], name) for r in (one, other))
            np.testing.assert_allclose(mine, its, rtol=1e-6, atol=1e-6 * np.abs(its).max())
    for name in ("similarity", "position"):
        np.testing.assert_allclose(getattr(one.null, name), getattr(other.null, name), atol=1e-6)
    for name in ("subject", "volume"):
        np.testing.assert_array_equal(getattr(one.null, name), getattr(other.null, name))
    np.testing.assert_allclose(one.null_ncc, other.null_ncc, atol=1e-6)
    for key in set(other.manifest) - {"created", "files"}:
        assert_near(one.manifest[key], other.manifest[key], key)


def assert_near(one: object, other: object, where: str) -> None:
    """The same, numbers within 1e-6; lists and dictionaries of whatever depth."""
    if isinstance(other, dict):
        assert isinstance(one, dict)
        assert set(one) == set(other), where
        for key in other:
            assert_near(one[key], other[key], f"{where}.{key}")
    elif isinstance(other, list):
        assert isinstance(one, list)
        assert len(one) == len(other), where
        for i, (mine, its) in enumerate(zip(one, other, strict=True)):
            assert_near(mine, its, f"{where}[{i}]")
    else:
        assert one == (pytest.approx(other, abs=1e-6) if isinstance(other, float) else other), where


def test_extended_reference_equals_a_build_of_everything(cohort, tmp_path: Path) -> None:
    assert main(["extend", str(cohort.early), str(cohort.new), "--out", str(tmp_path / "grown")]) == 0
    assert_same(tmp_path / "grown", cohort.full)


def test_merged_reference_equals_a_build_of_everything(cohort, tmp_path: Path) -> None:
    assert main(["merge", str(cohort.late), str(cohort.early), "--out", str(tmp_path / "joined")]) == 0
    assert_same(tmp_path / "joined", cohort.full)


def test_extending_in_place_replaces_the_reference_and_encodes_only_what_is_new(cohort, tmp_path, monkeypatch) -> None:
    place = tmp_path / "reference"
    shutil.copytree(cohort.early, place)
    from memorization_index import channels

    encoded = []
    describe = channels.EmbeddedDescriber.describe
    monkeypatch.setattr(
        channels.EmbeddedDescriber,
        "describe",
        lambda self, stack: encoded.append(len(stack.images)) or describe(self, stack),
    )
    Reference.open(place).extend([cohort.folder / "early", cohort.new], place)
    assert_same(place, cohort.full)
    assert sorted(encoded) == [2, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reference"]


def test_extended_in_memory_scores_as_the_full_build(cohort, tmp_path: Path) -> None:
    query = phantoms.write(tmp_path / "query.nii.gz", phantoms.anatomy(2)[4:6])
    grown, full = Reference.open(cohort.early).extend(cohort.new), Reference.open(cohort.full)
    one, other = (reference.score(query).slices for reference in (grown, full))
    np.testing.assert_array_equal(one["match_volume"], other["match_volume"])
    np.testing.assert_allclose(one["similarity"], other["similarity"], atol=1e-6)
    assert grown.folder is None


def test_failed_extension_leaves_the_reference_as_it_was(cohort, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "reference"
    shutil.copytree(cohort.early, place)
    before = (place / "manifest.json").read_bytes()

    def fail(*_args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("memorization_index.reference.write_manifest", fail)
    with pytest.raises(OSError, match="disk full"):
        Reference.open(place).extend(cohort.new, place)
    assert (place / "manifest.json").read_bytes() == before
    monkeypatch.undo()
    Reference.open(place).extend(cohort.new, place)
    assert_same(place, cohort.full)


def test_extending_in_place_goes_on_where_it_was_killed_between_moving_the_old_and_the_new(cohort, tmp_path) -> None:
    place = tmp_path / "reference"
    shutil.copytree(cohort.early, tmp_path / ".reference.old-7")
    shutil.copytree(cohort.early, tmp_path / ".reference.new-7")
    with pytest.raises(MemorizationIndexError, match="run the same command again, which brings it back"):
        Reference.open(place)
    assert main(["extend", str(place), str(cohort.new)]) == 0
    assert_same(place, cohort.full)
    assert [p.name for p in tmp_path.iterdir()] == ["reference"]


def test_workspace_left_by_a_killed_extension_goes_with_the_next(cohort, tmp_path: Path) -> None:
    place = tmp_path / "reference"
    shutil.copytree(cohort.full, place)
    (tmp_path / ".reference.extending").mkdir()
    assert main(["extend", str(place), str(cohort.new)]) == 2, "nothing is new"
    assert [p.name for p in tmp_path.iterdir()] == ["reference"]


def test_reference_that_another_command_extended_meanwhile_is_not_replaced(cohort, tmp_path: Path) -> None:
    """Both opened the same reference; the one that comes second would lose the volumes of the first."""
    place = tmp_path / "reference"
    shutil.copytree(cohort.early, place)
    first, second = Reference.open(place), Reference.open(place)
    first.extend(cohort.new, place)
    with pytest.raises(MemorizationIndexError, match="was replaced by another command"):
        second.extend(phantoms.write(tmp_path / "third.nii.gz", phantoms.anatomy(64)[4:6]), place)
    assert_same(place, cohort.full)


def test_moved_training_images_are_found_below_the_training_root(cohort, tmp_path: Path) -> None:
    moved, elsewhere = tmp_path / "moved", tmp_path / "elsewhere"
    shutil.copytree(cohort.folder / "early", moved)
    built = Reference.build(moved, power="none")
    shutil.move(moved, elsewhere)
    built.extend(cohort.new, tmp_path / "grown", training_root=elsewhere)
    Reference.build([elsewhere, cohort.new], tmp_path / "full", power="none")
    assert_same(tmp_path / "grown", tmp_path / "full")  # files and verified matches of the null are those there
    assert len(Reference.open(tmp_path / "grown").null_ncc)


def test_folder_that_was_moved_and_has_grown_is_given_as_it_is(cohort, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    for part in ("early", "late"):
        shutil.copytree(cohort.folder / part, moved, dirs_exist_ok=True)
    early = Reference.open(cohort.early)
    for number, volume in enumerate(early.volumes):  # as if its images were nowhere else any more
        gone = tuple(file.replace(str(cohort.folder / "early"), str(tmp_path / "gone")) for file in volume.files)
        early.volumes[number] = replace(volume, files=gone)
    with pytest.raises(MemorizationIndexError, match=r"same name .* name the folder they are in now with --training-r"):
        early.extend(moved)
    early.extend(moved, tmp_path / "grown", training_root=moved)
    Reference.build(moved, tmp_path / "full", power="none")
    assert_same(tmp_path / "grown", tmp_path / "full")


def test_another_image_below_the_training_root_is_refused(cohort, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(cohort.folder / "early", tmp_path / "elsewhere")
    other = phantoms.write(elsewhere / "sub-03" / "sub-03_T1w.nii.gz", phantoms.anatomy(91)[4:6])
    with pytest.raises(MemorizationIndexError) as caught:
        Reference.open(cohort.early).extend(cohort.new, training_root=elsewhere)
    assert str(caught.value).startswith(f"{other}: is not the training volume sub-03/sub-03_T1w.nii.gz that")


def test_nothing_new_is_an_error(cohort) -> None:
    with pytest.raises(MemorizationIndexError, match=r"No new training image was found; expected at least one"):
        Reference.open(cohort.early).extend(cohort.folder / "early")


def test_same_name_of_another_volume_is_refused(cohort, tmp_path: Path) -> None:
    phantoms.write(tmp_path / "sub-00" / "sub-00_T1w.nii.gz", phantoms.anatomy(90)[4:6])
    with pytest.raises(MemorizationIndexError, match=r"1 volumes .* same name \(the first: sub-00/sub-00_T1w.nii.gz\)"):
        Reference.open(cohort.early).extend(tmp_path)
    with pytest.raises(MemorizationIndexError, match=r"3 volumes of different parts have the same name"):
        Reference.merge([Reference.open(cohort.early), Reference.open(cohort.early)])


def test_references_that_do_not_fit_together_are_refused(cohort) -> None:
    early, late = Reference.open(cohort.early), Reference.open(cohort.late)
    changes = {"plane": "coronal", "protocol": "mi-v2", "seed": 5}
    for key, value in changes.items():
        other = replace(late, manifest={**late.manifest, key: value})
        with pytest.raises(
            MemorizationIndexError, match=rf"late-reference: its {key} is {value}, .* expected the same"
        ):
            Reference.merge([early, other])
    for key, what in (("name", "encoder"), ("fingerprint", "encoder's fingerprint")):
        encoder = {**json.loads(json.dumps(late.manifest["encoder"])), key: "another"}
        other = replace(late, manifest={**late.manifest, "encoder": encoder})
        with pytest.raises(MemorizationIndexError, match=rf"late-reference: its {what} is another"):
            Reference.merge([early, other])
    with pytest.raises(MemorizationIndexError, match=r"1 reference was given; expected at least two"):
        Reference.merge([early])


def test_pseudonymized_reference_is_refused(cohort) -> None:
    early = Reference.open(cohort.early)
    early.manifest["pseudonyms"] = {}
    progress = Watched()
    with pytest.raises(MemorizationIndexError, match=r"early-reference: is pseudonymized"):
        early.extend(cohort.new, progress=progress)
    with pytest.raises(MemorizationIndexError, match=r"early-reference: is pseudonymized"):
        Reference.merge([Reference.open(cohort.late), early], progress=progress)
    assert progress.stages == [], "before anything is read"


def test_controls_and_novel_samples_are_looked_for_before_anything_is_read(cohort) -> None:
    progress, early = Watched(), Reference.open(cohort.early)
    with pytest.raises(MemorizationIndexError, match=r"--controls gone: does not exist"):
        early.extend(cohort.new, controls="gone", progress=progress)
    with pytest.raises(MemorizationIndexError, match=r"has 3 usable volumes; expected at least 5 samples"):
        Reference.merge([early, Reference.open(cohort.late)], novel=cohort.folder / "early", progress=progress)
    assert progress.stages == []
