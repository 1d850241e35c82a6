"""What a reference says of itself: its power, its controls, and a null that was given from outside."""

import pytest
from memorization_index import MemorizationIndexError, Reference
from memorization_index.power import CHEAP
from phantoms import anatomy, write, write_cohort


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("power") / "training"
    write_cohort(folder, range(8))
    return folder


def others(folder, subjects):
    for subject in subjects:
        write(folder / f"sub-{subject}_T1w.nii.gz", anatomy(subject)[3:9])
    return folder


def test_the_power_card_counts_copies_and_controls(training):
    rows = Reference.build(training, plane="axial").manifest["power"]["augmentations"]
    assert [row["augmentation"] for row in rows] == list(CHEAP)
    for row in rows:
        assert (row["copies"], row["controls"]) == (8, 8)
        assert row["named"] <= row["found"] <= 8
    by_name = {row["augmentation"]: row for row in rows}
    # What was not changed at all is always found and named; the same slice is not when its person is left out.
    assert (by_name["identity"]["found"], by_name["identity"]["named"]) == (8, 8)
    assert by_name["flip_horizontal"]["found"] == 8
    assert sum(row["flagged"] for row in rows) <= 0.1 * sum(row["controls"] for row in rows)


def test_without_a_power_card_none_is_given(training):
    assert Reference.build(training, plane="axial", power="none").manifest["power"]["augmentations"] == []
    with pytest.raises(MemorizationIndexError, match="--power much: is not known; expected cheap, full or none"):
        Reference.build(training, plane="axial", power="much")


def test_novel_samples_replace_the_null(training, tmp_path):
    novel = others(tmp_path / "novel", range(60, 66))
    reference = Reference.build(training, plane="axial", power="none", novel=novel)
    assert (reference.null.subjects, len(reference.null.similarity)) == (6, 36)
    assert reference.manifest["null_from"] == "6 novel samples"
    scores = reference.score(novel)
    assert scores.run["null_from"] == "6 novel samples"
    # The null is made of these very slices, so their p-values are spread evenly.
    assert sorted(reference.null.similarity) == pytest.approx(sorted(scores.slices["similarity"]))
    assert sorted(scores.slices["p_value"]) == pytest.approx([(i + 2) / 37 for i in range(36)], abs=0.1)
    with pytest.raises(MemorizationIndexError, match="has 4 usable volumes; expected at least 5 samples"):
        Reference.build(training, plane="axial", power="none", novel=others(tmp_path / "few", range(60, 64)))


def test_controls_come_with_an_interval_that_draws_volumes(training, tmp_path):
    controls = others(tmp_path / "controls", range(70, 76))
    found = Reference.build(training, plane="axial", power="none", controls=controls).manifest["controls"]
    assert (found["volumes"], found["slices"], found["verdict_copy"]) == (6, 36, 0)
    for name in ("at_1_percent", "at_5_percent"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1
