"""The demo, small: what it plants is what it says, and what it counts is what the score tables say."""

import csv
import json

import numpy as np
import pytest
from memorization_index.augmentations import PUBLISHED
from memorization_index.demo import run_demo, table
from memorization_index.errors import MemorizationIndexError
from memorization_index.evaluation.cohorts import read_demo_volume


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, seed=1, training_subjects=8, held_out_subjects=3, copies=2)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_copies_are_found_and_controls_are_not(demo):
    _, result = demo
    total = result["total"]
    assert total["planted"] == total["controls"] == 2 * len(PUBLISHED)
    assert total["found"] == total["named_rightly"] == total["planted"]
    assert total["false_alarms"] <= 1
    assert result["partial_copies"]["planted"] == len(PUBLISHED)
    assert total["slices_planted"] == len(PUBLISHED) * (16 + 3)
    assert total["slices_named_rightly"] >= 0.97 * total["slices_planted"]


def test_counts_are_those_of_the_tables(demo):
    out, result = demo
    assert json.loads((out / "demo.json").read_text()) == result
    truth = {row["path"]: row for row in rows_of(out / "truth.csv")}
    verdicts = {row["path"].rsplit("/")[-1]: row for row in rows_of(out / "result" / "volumes.csv")}
    assert set(truth) == set(verdicts)
    for name in PUBLISHED:
        own = {path: row for path, row in truth.items() if row["augmentation"] == name}
        copies = [path for path, row in own.items() if row["kind"] != "control"]
        found = [path for path in copies if verdicts[path]["verdict"] == "copy"]
        named = [path for path in found if verdicts[path]["match_subject"] == own[path]["copied_subject"]]
        alarms = [path for path in set(own) - set(copies) if verdicts[path]["verdict"] == "copy"]
        counts = result["by_augmentation"][name]
        suspicious = [path for path in set(own) - set(copies) if verdicts[path]["verdict"] == "suspicious"]
        assert counts["suspicious_controls"] == len(suspicious)
        assert [counts[key] for key in ("planted", "found", "named_rightly", "controls", "false_alarms")] == [
            len(copies),
            len(found),
            len(named),
            len(own) - len(copies),
            len(alarms),
        ]
    assert (out / "result" / "report.html").stat().st_size > 1000


def test_the_report_says_which_slices_it_compared_with_the_null(demo):
    """By what was found, not by what was planted: controls that were flagged are not among them."""
    out, result = demo
    compared = [
        row
        for row in rows_of(out / "result" / "slices.csv")
        if row["flagged"] == "0" and row["match_class"] in ("novel", "")
    ]
    images = len({row["volume"] for row in compared})
    text = (out / "result" / "report.html").read_text(encoding="utf-8")
    assert f"the {len(compared)} slices, of {images} images, that are neither flagged nor" in text
    total = result["total"]
    assert len(compared) <= total["slices_not_copied"] + total["slices_planted"] - total["slices_found"]


def test_what_is_planted_is_what_the_truth_says(demo):
    out, _ = demo
    for row in rows_of(out / "truth.csv"):
        if row["augmentation"] != "identity" or row["kind"] == "control":
            continue
        source = read_demo_volume(out / "training" / f"{row['copied_subject']}_T1w.nii.gz")
        planted = read_demo_volume(out / "synthetic" / row["path"])
        same = [k for k in range(len(source)) if np.allclose(source[k], planted[k], atol=0.002)]
        assert same == [int(k) for k in row["copied_slices"].split()]
        assert len(same) == (16 if row["kind"] == "whole copy" else 3)


def test_table_names_every_augmentation(demo):
    text = table(demo[1])
    assert [line.split()[0] for line in text.splitlines()[1:-3]] == list(PUBLISHED)
    assert len({len(line) for line in text.splitlines()[:-2]}) == 1, "columns line up"


def test_table_says_what_it_counts_and_how_many_controls_are_suspicious(demo):
    total = {**demo[1]["total"], "controls": 32, "suspicious_controls": 1}
    line = table({**demo[1], "total": total}).splitlines()[-2]
    assert line.startswith("Found and false alarms: volumes with the verdict copy. Of 32 controls 1 is suspicious")


def test_impossible_demos_are_refused(tmp_path):
    with pytest.raises(MemorizationIndexError, match="no more copies than subjects"):
        run_demo(tmp_path, training_subjects=2, copies=3)
