"""People scanned again: which volumes are kept out for it, and what the summary counts."""

from pathlib import Path

import numpy as np
import pytest
from memorization_index.cohort import Entry
from memorization_index.evaluation.again import other_volumes, rescanned, summary
from memorization_index.evaluation.sampling import Chosen
from memorization_index.slices import SliceStack


def entry(name: str, subject: str) -> Entry:
    return Entry(name, (Path(name),), subject, "table")


def test_the_last_volume_of_people_with_several_is_kept_out():
    entries = [entry("a1", "a"), entry("b1", "b"), entry("a2", "a"), entry("c1", "c"), entry("c2", "c")]
    assert [one.name for one in other_volumes(entries, ["b", "a"])] == ["a2"]


def test_a_rescan_has_one_pose_and_keeps_what_a_slice_is():
    image = np.zeros((60, 48), np.float32)
    image[20:40, 12:36] = 0.8
    stack = SliceStack([image, image, image], (1.0, 1.0), np.arange(3), 3, "axial")
    (query,) = rescanned([Chosen("v", "s", stack)], [0, 1])
    assert [one.shape for one in query.stack.images] == [(60, 48)] * 3
    centers = [np.argwhere(one > 0.2).mean(axis=0) for one in query.stack.images]
    np.testing.assert_allclose(centers[0], centers[2], atol=0.2)
    assert 0 < np.abs(query.stack.images[0] - image).max() < 1


def row(kind: str, match_class: str, subject: str, flagged: bool = False, augmentation: str = "identity") -> dict:
    return {"kind": kind, "match_class": match_class, "subject": subject, "match_subject": subject,
            "flagged": flagged, "p_value": 0.5, "augmentation": augmentation}  # fmt: skip


def test_classes_are_ordered_and_turned_copies_do_not_count():
    again = [row("rescan", "same anatomy", "a"), row("rescan", "novel", "b"), row("rescan", "copy", "c", True)]
    volumes = [{"kind": "rescan", "verdict": "suspicious"}, {"kind": "rescan", "verdict": "no evidence"}]
    copies = [row("copy", "copy", "a"), row("copy", "novel", "b", augmentation="rotation_5")]
    (found,) = summary(again, volumes, copies)
    assert found["auc"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["never_novel"] == pytest.approx(2 / 3)
    assert (found["verdict no evidence"], found["verdict suspicious"]) == (0.5, 0.5)
