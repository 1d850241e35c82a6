"""evaluate and evaluate-generator on made heads: planted copies are found, tables are whole, finished work is kept."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from memorization_index import MemorizationIndexError
from memorization_index.cli import main
from memorization_index.evaluation.cohorts import make_demo_cohort, read_demo_volume
from memorization_index.evaluation.generator import Settings, evaluate_generator
from PIL import Image


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> list[Path]:
    return make_demo_cohort(tmp_path_factory.mktemp("heads"), 12, seed=5)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def strict(path: Path) -> dict:
    """JSON as other programs read it: without NaN."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{path.name} has {name}"))


@pytest.mark.slow
def test_evaluate_writes_whole_tables_and_goes_on_from_finished_splits(heads, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["evaluate", str(heads[0].parent), "--out", str(out), "--training-subjects", "7", "--volumes", "4",
               "--slices", "3", "--augmentations", "identity,blend_70"]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "Trained on 7 subjects and tested on 4 held-out ones" in printed
    assert "fewer than 20 subjects" in printed
    assert "give no volume a p below 0.125" in printed
    assert str(out) in printed
    assert "paper-v1 is left out" in printed
    compared = read(out / "comparison.csv")
    assert {"mi-v1", "channel spectral", "channel layout", "nearest cosine", "pixel NCC", "SSIM"} <= {
        row["measure"] for row in compared
    }
    assert all(0 <= float(row[n]) <= 1 for row in compared for n in ("auc", "auc_low", "auc_high", "tpr"))
    pooled = next(r for r in compared if (r["measure"], r["augmentation"]) == ("mi-v1", "identity"))
    assert float(pooled["auc"]) == 1
    sets = {(row["measure"], float(row["duplication"])): row for row in read(out / "spread.csv")}
    for measure in ("FID", "KID", "C_T", "AuthPct", "Vendi", "copied fraction (mi-v1)"):
        assert np.isfinite(float(sets[measure, 0.45]["mean"])), measure
    assert len(read(out / "slices.csv")) == 2 * 2 * 4 * 3
    whole = strict(out / "evaluate.json")
    assert whole["subjects"] == 12
    # The people who were copied, scanned again (simulated): recognized, and never taken for new ones.
    (again,) = whole["again"]
    assert (again["kind"], again["slices"], again["volumes"]) == ("rescan", 12, 4)
    assert again["named"] == 1
    assert again["never_novel"] > 0.9
    assert again["verdict no evidence"] == 0
    assert again["class exact"] == 0
    assert again["auc"] > 0.9
    assert len(read(out / "again_slices.csv")) == 12
    assert "same person again" in (out / "evaluate.md").read_text(encoding="utf-8")
    before = (out / "split-000.json").stat().st_mtime_ns
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    assert main(command) == 0
    assert "Tables and rows (no figures: matplotlib is not installed, so run, " in capsys.readouterr().out
    monkeypatch.undo()
    assert (out / "split-000.json").stat().st_mtime_ns == before
    # Another file under the same name is another cohort.
    heads[0].write_bytes(heads[0].read_bytes())
    capsys.readouterr()
    assert main(command) == 0
    assert "parts of another evaluation" in capsys.readouterr().err
    assert (out / "split-000.json").stat().st_mtime_ns > before


def planted(heads: list[Path], folder: Path) -> Path:
    """Images of 7 heads to train on and of 5 others; a stage of 3 noisy copies and 2 novel heads."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "late").mkdir()
    names = []
    for i, path in enumerate(heads):
        image = np.clip(read_demo_volume(path)[8], 0, 1)
        names.append(f"images/head_{i}.png")
        Image.fromarray(np.uint8(255 * image)).save(folder / names[-1])
        if i in (0, 1, 2, 10, 11):
            noisy = np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1)
            Image.fromarray(np.uint8(255 * noisy)).save(folder / "late" / f"sample_{i}.png")
    (folder / "train.csv").write_text("file\n" + "\n".join(names[:7]) + "\n")
    (folder / "controls.csv").write_text("file\n" + "\n".join(names[7:]) + "\n")
    rows = [f"late,sample_{i}.png,{names[i]},0.99,memorized" for i in (0, 1, 2)]
    rows += [f"late,sample_{i}.png,{names[0]},0.60,not_memorized" for i in (10, 11)]
    (folder / "truth.csv").write_text("checkpoint,sample,nearest_train,ncc_train,label\n" + "\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
def test_a_generators_copies_are_found_and_counted(heads, tmp_path):
    folder, out = planted(heads, tmp_path / "samples"), tmp_path / "out"
    result = evaluate_generator(folder, folder, out, Settings(every=1))
    (stage,) = result["stages"]
    assert (stage["clear_copies"], stage["clear_others"], stage["truth"]) == (3, 2, 0.6)
    assert (stage["auc"], stage["right"]) == (1, 1)
    assert stage["estimate"] == pytest.approx(0.6)  # by verified copies: 7 training heads cannot give p ≤ .01
    assert stage["peers"]["channel spectral"]["auc"] == 1
    assert np.isfinite(stage["FID"])
    assert result["controls"]["images"] == 5
    assert result["controls"]["flagged"]["as they are"]["verified"] == 0
    assert [row["sample"] for row in read(out / "samples.csv")] == [f"sample_{i}" for i in (0, 1, 2, 10, 11)]
    assert len(strict(out / "generator.json")["stages"]) == 1
    text = (out / "generator.md").read_text()
    assert evaluate_generator(folder, folder, out, Settings(every=1))["stages"][0]["estimate"] == stage["estimate"]
    assert (out / "generator.md").read_text() == text


def test_a_missing_table_or_image_is_named(heads, tmp_path):
    folder = planted(heads, tmp_path / "samples")
    (folder / "late" / "sample_1.png").unlink()
    with pytest.raises(MemorizationIndexError, match=r"4 can be read|sample_1"):
        evaluate_generator(folder, folder, tmp_path / "out", Settings(every=1))
    truth = folder / "truth.csv"
    truth.write_text(truth.read_text().replace("not_memorized", "novel"))
    with pytest.raises(MemorizationIndexError, match=r"'novel' is neither memorized nor not_memorized"):
        evaluate_generator(folder, folder, tmp_path / "out", Settings(every=1))
    (folder / "truth.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MemorizationIndexError, match=r"truth.csv.*checkpoint"):
        evaluate_generator(folder, folder, tmp_path / "out", Settings(every=1))


def test_the_adjacent_slice_of_single_images_is_refused_before_any_work(heads, tmp_path, capsys):
    folder = planted(heads, tmp_path / "samples")
    command = ["evaluate", str(folder / "images"), "--out", str(tmp_path / "out"), "--augmentations"]
    assert main([*command, "identity,adjacent"]) == 2
    assert "without a slice beside them" in capsys.readouterr().err


def test_numbers_of_subjects_that_are_none_are_refused(tmp_path, capsys):
    for text in ("0", "five", "5,,10"):
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", str(tmp_path), "--out", str(tmp_path / "out"), "--subjects-sweep", text])
        assert stop.value.code == 2
    assert "no whole number" in capsys.readouterr().err
