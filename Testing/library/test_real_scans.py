"""The main job on real scans, which lie beside the checkout and not in it; on CI they must be there."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from golden import FOLDER
from memorization_index import Reference

DATA = FOLDER.parent / "data"
if not DATA.is_dir() and os.environ.get("CI"):
    raise FileNotFoundError(f"{DATA}: the real scans are missing; CI must run on them.")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real scans are not there ({DATA})")


def table(path: Path, files: list[str]) -> Path:
    path.write_text("path\n" + "".join(f"{DATA / 'ixi_midsagittal' / file}\n" for file in files))
    return path


def test_duplicate_pairs_are_found_across_two_halves_and_blanks_are_not_reported(tmp_path: Path) -> None:
    with (DATA / "ixi_midsagittal" / "duplicates.csv").open() as stream:
        pairs = [(row["a"], row["b"]) for row in csv.DictReader(stream) if row["kind"] == "bit_identical"]
    known = {file for pair in pairs for file in pair}
    others = sorted(f"images/{p.name}" for p in (DATA / "ixi_midsagittal" / "images").iterdir())
    blank = ["images/M_213.jpg", "images/M_244.jpg"]
    others = [file for file in others if file not in known and file not in blank]
    training = table(tmp_path / "training.csv", [a for a, _ in pairs] + others[:60] + blank[:1])
    queries = table(tmp_path / "queries.csv", [b for _, b in pairs] + others[60:90] + blank[1:])
    reference = Reference.build(training)
    scores = reference.score(queries)
    found = {
        Path(volume).name: (verdict, Path(match).name)
        for volume, verdict, match in zip(
            scores.volumes["volume"], scores.volumes["verdict"], scores.volumes["match_volume"], strict=True
        )
    }
    assert len(pairs) == 25
    assert {name: match for name, (verdict, match) in found.items() if verdict == "copy"} == {
        Path(b).name: Path(a).name for a, b in pairs
    }
    assert reference.manifest["counts"]["skipped"] == 1
    assert "M_213.jpg" in reference.manifest["skipped"][0]["reason"]
    assert [s for s in scores.run["skipped"] if "M_244.jpg" in s["path"]]


def test_thin_stacks_with_pixels_that_are_not_square_and_too_few_subjects_to_calibrate() -> None:
    reference = Reference.build(DATA / "spider_spine" / "sub-002_T2w.nii.gz")
    scores = reference.score([DATA / "spider_spine" / f"sub-00{n}_T2w.nii.gz" for n in (2, 3)])
    assert reference.plane == "sagittal"
    assert not reference.null.is_calibrated
    assert scores.volumes["verdict"].tolist() == ["copy", "uncalibrated"]
    assert np.isnan(scores.slices["p_value"]).all()
    assert set(scores.slices["match_class"][scores.slices["volume"] == scores.volumes["volume"][0]]) == {"exact"}
