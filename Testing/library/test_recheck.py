"""An auditor with reference, result and images gets the same numbers, and notices when they are not the same."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import phantoms
import pytest
from memorization_index.cli import main

HOLDS, WRONG_USE, DIFFERS = 0, 2, 4
COPY, NEW = "copy.nii.gz", "new.nii.gz"


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    phantoms.write(folder / COPY, phantoms.anatomy(2)[3:9])
    phantoms.write(folder / NEW, phantoms.anatomy(50)[3:9])
    phantoms.write_dicom(folder / "series", phantoms.anatomy(51)[3:6])
    return folder


@pytest.fixture(scope="module")
def result(reference: Path, queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recheck") / "result"
    assert main(["score", str(reference), str(queries), "--out", str(out)]) == 0
    return out


def verify(capsys, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["verify", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def changed(result: Path, out: Path, table: str, change: Callable[[list[dict[str, str]]], None]) -> Path:
    """A copy of the result with another table."""
    shutil.copytree(result, out)
    with (out / table).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    change(rows)
    with (out / table).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_result_holds_wherever_the_images_are(reference: Path, queries: Path, result: Path, tmp_path, capsys) -> None:
    """Other folders and names; the images are known by their SHA-256."""
    for i, path in enumerate(sorted(queries.glob("*.nii.gz"))):
        (tmp_path / "moved" / str(i)).mkdir(parents=True)
        shutil.copy(path, tmp_path / "moved" / str(i) / "image.nii.gz")
    shutil.copytree(queries / "series", tmp_path / "moved" / "other series")
    code, out, err = verify(capsys, reference, "--result", result, "--queries", tmp_path / "moved")
    assert code == HOLDS
    assert "3 volumes, 15 slices scored again" in out
    assert "the result holds" in out
    assert "not hold" not in out + err
    assert err.count("recognized by SHA-256 under another name") == 1
    assert "2 images recognized by SHA-256 under another name: image.nii.gz is copy.nii.gz, image.nii.gz is new" in err


def test_places_come_from_a_result_that_kept_them(reference: Path, queries: Path, result: Path, tmp_path, capsys):
    assert main(["score", str(reference), str(queries), "--out", str(tmp_path / "kept"), "--keep-paths"]) == 0
    assert verify(capsys, reference, "--result", tmp_path / "kept")[0] == HOLDS
    code, _, err = verify(capsys, reference, "--result", result)
    assert code == WRONG_USE
    assert "give --queries PATH" in err


def test_result_under_pseudonyms_needs_the_key(reference: Path, queries: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "result"
    assert main(["score", str(reference), str(queries), "--out", str(out), "--pseudonymize"]) == 0
    arguments = (reference, "--result", out, "--queries", queries)
    code, _, err = verify(capsys, *arguments)
    assert code == WRONG_USE
    assert "give --key FILE" in err
    (tmp_path / "other.key").write_text("0" * 64)
    (tmp_path / "other.key").chmod(0o600)
    code, _, err = verify(capsys, *arguments, "--key", tmp_path / "other.key")
    assert code == WRONG_USE
    assert "none of the 3 images given is one of the result's; expected the key that the result was written with" in err
    code, said, _ = verify(capsys, *arguments, "--key", tmp_path / "result.key")
    assert code == HOLDS
    assert "3 volumes" in said
    with (out / "slices.csv").open(encoding="utf-8", newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["match_class"] == "exact")
    other = changed(out, tmp_path / "changed", "slices.csv", put("match_subject", "another", row["volume"]))
    code, _, err = verify(capsys, reference, "--result", other, *arguments[3:], "--key", tmp_path / "result.key")
    assert code == DIFFERS
    assert f"matches {row['match_subject']} " in err


def test_reference_and_result_under_different_keys(tmp_path: Path, queries: Path, capsys) -> None:
    """Whoever scored had the reference without its key; the auditor at its owner's has both keys."""
    for subject in range(6):
        phantoms.write(tmp_path / "training" / f"sub-{subject:02d}.nii.gz", phantoms.anatomy(subject)[3:9])
    reference, out = tmp_path / "reference", tmp_path / "result"
    assert main(["build", str(tmp_path / "training"), "--out", str(reference), "--pseudonymize"]) == 0
    assert main(["score", str(reference), str(queries), "--out", str(out), "--pseudonymize"]) == 0
    keys = ("--key", tmp_path / "reference.key", "--result-key", tmp_path / "result.key")
    code, said, err = verify(capsys, reference, "--result", out, "--queries", queries, *keys)
    assert code == HOLDS, err
    assert "3 volumes, 15 slices scored again" in said


def put(column: str, value: str, volume: str = COPY) -> Callable[[list[dict[str, str]]], None]:
    def change(rows: list[dict[str, str]]) -> None:
        next(row for row in rows if row["volume"] == volume)[column] = value

    return change


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("slices.csv", "similarity", "0.9990", "copy.nii.gz, slices: similarity differs by up to 0.001"),
        ("slices.csv", "mi", "3.0", "copy.nii.gz, slices: mi differs"),
        ("slices.csv", "mi", "", "mi is given where it was not recorded"),
        ("slices.csv", "p_value", "0.5", "slices.csv: its q-values are not those of its p-values"),
        ("slices.csv", "q_value", "0.9", "slices.csv: its q-values are not those of its p-values"),
        ("slices.csv", "match_class", "novel", "copy.nii.gz, slice 0: class is 'exact', recorded 'novel'"),
        ("slices.csv", "slice", "40", "has other slices"),
        ("slices.csv", "oni", "0.5", "slices.csv: its ONI are not those of its MI"),
        ("slices.csv", "flagged", "0", "copy.nii.gz, slice 0: is not flagged, against its class and p"),
        ("slices.csv", "ncc", "0.9", "copy.nii.gz, slices: ncc differs"),
        ("slices.csv", "match_class", "no class", "its parts do not fit each other (ValueError: 'no class'"),
        ("slices.csv", "match_subject", "sub-00", "matches sub-02 "),
        ("volumes.csv", "verdict", "no evidence", "copy.nii.gz: verdict is copy by its slices, recorded no evidence"),
        ("volumes.csv", "match_subject", "sub-00", "match_subject is sub-02 by its slices, recorded sub-00"),
        ("volumes.csv", "n_flagged", "0", "n_flagged is 6 by its slices, recorded 0"),
        ("volumes.csv", "null_deviation", "1000", "copy.nii.gz: null_deviation differs"),
        ("volumes.csv", "mi", "1.0", "copy.nii.gz: mi differs"),
        ("volumes.csv", "q_value", "0.0001", "volumes.csv: its q-values"),
    ],
)
def test_every_changed_number_is_noticed(
    reference: Path, queries: Path, result: Path, tmp_path: Path, capsys, table: str, column: str, value: str, said: str
) -> None:
    other = changed(result, tmp_path / "changed", table, put(column, value))
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries / COPY, "--volume", COPY)
    assert code == DIFFERS
    assert said in err


def test_another_person_named_throughout_is_noticed(reference, queries: Path, result: Path, tmp_path, capsys) -> None:
    """Tables and report agree with each other, but not with the images."""

    def rename(rows: list[dict[str, str]]) -> None:
        for row in rows:
            if row["match_subject"] == "sub-02":
                row["match_subject"] = "sub-00"

    other = changed(result, tmp_path / "one", "slices.csv", rename)
    other = changed(other, tmp_path / "two", "volumes.csv", rename)
    assert main(["report", str(other)]) == 0
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries / COPY, "--volume", COPY)
    assert code == DIFFERS
    assert "copy.nii.gz, slice 0: matches sub-02" in err
    assert "recorded sub-00" in err
    assert "by its slices" not in err


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "report.html",
            "1 of 3 examined images shows",
            "0 of 3 examined images show",
            "they or the report were changed",
        ),
        ("report.html", "data:image/png;base64,iVBORw0KGgo", "data:image/png;base64,iVBORw0KGgp", "report.html: does"),
        ("run.json", '"copy": 1', '"copy": 0', "run.json: counts other verdicts"),
        ("run.json", '"flagged": 6', '"flagged": 0', "run.json: counts 0 flagged slices, slices.csv has 6"),
        ("run.json", '"copy_ncc": ', '"copy_ncc": 1', "run.json: its calibration is not what the reference has"),
    ],
)
def test_changed_report_and_record_are_noticed(
    reference: Path, queries: Path, result: Path, tmp_path: Path, capsys, name: str, old: str, new: str, said: str
) -> None:
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    text = (other / name).read_text(encoding="utf-8")
    assert old in text
    (other / name).write_text(text.replace(old, new), encoding="utf-8")
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries / NEW, "--volume", NEW)
    assert code == DIFFERS
    assert said in err


def test_decisions_beside_a_result_change_nothing(reference, queries: Path, result: Path, tmp_path, capsys) -> None:
    other = Path(shutil.copytree(result, tmp_path / "read"))
    (other / "decisions.csv").write_text(f"volume,slice,decision,note,time,reader\n{COPY},,copy,,,R. D.\n")
    arguments = (reference, "--result", other, "--queries", queries / NEW, "--volume", NEW)
    assert verify(capsys, *arguments)[0] == HOLDS
    assert main(["report", str(other)]) == 0
    assert verify(capsys, *arguments)[0] == HOLDS
    (other / "decisions.csv").write_text(f"volume,slice,decision,note,time,reader\n{COPY},,not a copy,,,R. D.\n")
    assert verify(capsys, *arguments)[0] == DIFFERS


def test_another_verdict_is_noticed(reference: Path, queries: Path, result: Path, tmp_path: Path, capsys) -> None:
    """With all images of the result: whether p counts is decided by all of them together."""
    other = changed(result, tmp_path / "changed", "volumes.csv", put("verdict", "no evidence"))
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "verdict is copy, recorded no evidence" in err


def test_one_volume_alone(reference: Path, queries: Path, result: Path, tmp_path: Path, capsys) -> None:
    other = changed(result, tmp_path / "changed", "slices.csv", put("similarity", "0.5"))
    arguments = (reference, "--result", other, "--queries", queries)
    code, out, _ = verify(capsys, *arguments, "--volume", NEW)
    assert code == HOLDS
    assert "1 volume, 6 slices" in out
    assert f"volume {NEW} holds (1 of 3; its verdict is checked only with all)" in out
    assert verify(capsys, *arguments, "--volume", COPY)[0] == DIFFERS
    code, _, err = verify(capsys, *arguments, "--volume", "other")
    assert code == WRONG_USE
    assert "--volume other: is not in" in err


def test_other_images_are_noticed(reference: Path, queries: Path, result: Path, tmp_path: Path, capsys) -> None:
    phantoms.write(tmp_path / COPY, phantoms.anatomy(3)[3:9])
    code, _, err = verify(
        capsys, reference, "--result", result, "--queries", tmp_path, queries / NEW, queries / "series"
    )
    assert code == DIFFERS
    assert f"{COPY}: no file that was given has the SHA-256" in err


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where no training image is."""
    return tmp_path_factory.mktemp("elsewhere")


def test_without_training_images_the_rest_holds(reference, queries, result, elsewhere: Path, capsys, command) -> None:
    arguments = ("verify", reference, "--result", result, "--queries", queries, "--training-root", elsewhere)
    code, out, err = verify(capsys, *arguments[1:])
    assert code == HOLDS
    assert out.endswith("what could be checked holds; classes, matches and NCC of 15 slices were not checked.\n")
    assert (
        "classes, matches and NCC of 15 slices were not checked: the training images of the reference are not all in"
        in err
    )
    assert "verifying" not in err
    assert err.count("note: ") == 2, "the first reason, and what follows"
    assert f"--training-root {elsewhere}: holds no image, and so not a training volume of this reference" in err
    assert "give --training-root" not in err
    code, out, _ = verify(capsys, *arguments[1:], "--volume", COPY)
    assert code == HOLDS
    assert "of volume copy.nii.gz holds; classes, matches and NCC of 6 slices were not checked (1 of 3" in out
    told = command(*arguments)
    assert told.code == HOLDS
    (done,) = told.of("done")
    assert (done["holds"], done["unchecked"], done["slices"], done["problems"]) == (True, 15, 15, {})


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("slices.csv", "similarity", "0.9990", "similarity differs"),
        ("volumes.csv", "p_value", "0.9", "p_value differs"),
        ("volumes.csv", "verdict", "no evidence", "verdict is copy by its slices, recorded no evidence"),
    ],
)
def test_without_training_images_a_forged_result_does_not_hold(
    reference, queries: Path, result: Path, elsewhere, tmp_path: Path, capsys, table: str, column: str, value: str, said
) -> None:
    other = changed(result, tmp_path / "changed", table, put(column, value))
    code, out, err = verify(capsys, reference, "--result", other, "--queries", queries, "--training-root", elsewhere)
    assert code == DIFFERS
    assert said in err
    assert "not hold" in out


@pytest.mark.parametrize(
    ("put_in", "said"),
    [
        ({"match_class": "novel"}, "slice 0: has class 'novel', against its NCC (1), part (1) and the thresholds"),
        ({"match_class": "altered copy"}, "slice 0: has class 'altered copy', against its NCC"),
        ({"match_class": "copy", "ncc": "0.5", "part": "0.5"}, "slice 0: has class 'copy', against its NCC (0.5)"),
        ({"match_class": ""}, "slice 0: has no class, against its NCC"),
        ({"match_class": "novel", "ncc": "", "part": ""}, "slice 0: has class 'novel', against its NCC (nan)"),
    ],
)
def test_without_training_images_a_class_must_fit_its_agreement(
    reference, queries: Path, result: Path, elsewhere: Path, tmp_path: Path, capsys, put_in: dict[str, str], said: str
) -> None:
    def put_all(rows: list[dict[str, str]]) -> None:
        next(row for row in rows if row["volume"] == COPY).update(put_in)

    other = changed(result, tmp_path / "changed", "slices.csv", put_all)
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries, "--training-root", elsewhere)
    assert code == DIFFERS
    assert f"{COPY}, {said}" in err


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("match_volume", "another", "matches another, which the reference does not have"),
        ("match_subject", "sub-00", "sub-02_T1w.nii.gz of sub-00, which in the reference is of sub-02"),
        ("match_slice", "77", "sub-02_T1w.nii.gz, slice 77, which the reference does not have"),
    ],
)
def test_without_training_images_a_match_must_be_one_of_the_reference(
    reference, queries: Path, result: Path, elsewhere: Path, tmp_path: Path, capsys, column: str, value: str, said: str
) -> None:
    def rename(rows: list[dict[str, str]]) -> None:
        for row in rows:
            if row["volume"] == COPY and column in row:
                row[column] = value

    other = changed(result, tmp_path / "one", "slices.csv", rename)
    other = changed(other, tmp_path / "two", "volumes.csv", rename)
    assert main(["report", str(other)]) == 0
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries, "--training-root", elsewhere)
    assert code == DIFFERS
    assert said in err


def test_pseudonyms_are_matches_of_the_reference_too(reference, queries, elsewhere, tmp_path: Path, capsys) -> None:
    out = tmp_path / "result"
    assert main(["score", str(reference), str(queries), "--out", str(out), "--pseudonymize"]) == 0
    arguments = ("--queries", queries, "--training-root", elsewhere, "--key", tmp_path / "result.key")
    assert verify(capsys, reference, "--result", out, *arguments)[0] == HOLDS
    other = changed(out, tmp_path / "changed", "slices.csv", lambda rows: rows[0].update(match_subject="another"))
    code, _, err = verify(capsys, reference, "--result", other, *arguments)
    assert code == DIFFERS
    assert "of another, which in the reference is of" in err


def test_folder_without_training_images_is_named(reference, queries: Path, result: Path, tmp_path, capsys) -> None:
    for person in (70, 71):
        phantoms.write(tmp_path / f"{person}.nii.gz", phantoms.anatomy(person))
    arguments = (reference, "--result", result, "--queries", queries, "--training-root", tmp_path)
    code, _, err = verify(capsys, *arguments)
    assert code == HOLDS
    assert f"--training-root {tmp_path}: holds 2 images, none of them a training volume of this reference" in err


def test_result_that_was_scored_without_training_images_says_so(
    reference, queries: Path, elsewhere: Path, tmp_path: Path, capsys
) -> None:
    arguments = ("--training-root", str(elsewhere))
    capsys.readouterr()
    assert main(["score", str(reference), str(queries), "--out", str(tmp_path / "result"), *arguments]) == 0
    assert capsys.readouterr().err.count("is not there, so its matches cannot be verified") == 1
    code, out, err = verify(capsys, reference, "--result", tmp_path / "result", "--queries", queries, *arguments)
    assert code == HOLDS, err
    assert out.endswith(
        "the result holds; without a class in the result: 15 slices, not compared with training scans.\n"
    )


def test_images_that_the_result_leaves_out_are_noticed(reference, queries: Path, tmp_path: Path, capsys) -> None:
    """Whoever scores only what is no copy does not get away with it; what no run could examine may be left out."""
    shutil.copytree(queries, tmp_path / "given")
    (tmp_path / "given" / "broken.nii.gz").write_bytes(b"no image")
    (tmp_path / "given" / "broken too.nii.gz").write_bytes(b"no image")
    assert main(["score", str(reference), str(tmp_path / "given"), "--out", str(tmp_path / "whole")]) == 0
    arguments = ("--queries", tmp_path / "given")
    assert verify(capsys, reference, "--result", tmp_path / "whole", *arguments)[0] == HOLDS
    assert main(["score", str(reference), str(queries / NEW), "--out", str(tmp_path / "part")]) == 0
    code, out, err = verify(capsys, reference, "--result", tmp_path / "part", *arguments)
    assert code == DIFFERS
    assert "2 of the files given are not in this result: copy.nii.gz, series" in err
    assert "by kind: file 1; 1 does not hold" in out


def test_no_more_than_twenty_of_a_kind_are_told(reference, tmp_path: Path, capsys, command) -> None:
    for i in range(3):
        phantoms.write(tmp_path / "queries" / f"{i}.nii.gz", phantoms.anatomy(50 + i))
    assert main(["score", str(reference), str(tmp_path / "queries"), "--out", str(tmp_path / "result")]) == 0

    def flag(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["flagged"] = str(1 - int(row["flagged"]))

    other = changed(tmp_path / "result", tmp_path / "changed", "slices.csv", flag)
    arguments = (reference, "--result", other, "--queries", tmp_path / "queries" / "0.nii.gz", "--volume", "0.nii.gz")
    code, out, err = verify(capsys, *arguments)
    told = command("verify", *arguments)
    assert code == told.code == DIFFERS
    flags = told.of("done")[0]["problems"]["flag"]
    assert flags > 20
    assert err.count("against its class and p") == 20
    assert f"… and {flags - 20} more of this kind (flag)" in err
    assert f"flag {flags}" in out
    assert len([e for e in told.of("problem") if e["kind"] == "flag"]) == flags


def edited(path: str, value: object) -> Callable[[dict], None]:
    def edit(run: dict) -> None:
        *parents, key = path.split(".")
        for parent in parents:
            run = run[parent]
        run[key] = value(run[key]) if callable(value) else value

    return edit


#: What a record says of a generator for which p is not calibrated: flags and verdicts rest on matches alone then.
UNLIKE = {"p_calibrated": False, "shift": 2.0, "spread": 1.0, "ks": 0.5, "ks_p": 0.01}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("copied_fraction.value", 0.0, "copied_fraction's value is"),
        ("copied_fraction.high", 0.97, "copied_fraction's high is"),
        ("reference.counts", lambda counts: {**counts, "subjects": 300}, "its reference.counts is not what"),
        ("reference.plane", "coronal", "its reference.plane is not what"),
        ("smallest.slice_p", 1e-6, "its smallest.slice_p is not what"),
        ("smallest.volume_q_of_one_copy", 1e-6, "its smallest.volume_q_of_one_copy is not what"),
        ("counts.training_volumes_missing", 3, "counts 3 training volumes as missing, none is"),
        ("counts.skipped", 2, "counts 2 skipped files and lists 0"),
        ("inputs.sha256", "0" * 64, "its inputs are not those of inputs.csv"),
        (
            "generator",
            lambda made: {**made, **UNLIKE},
            "generator's p_calibrated is None by the tables, recorded False",
        ),
    ],
)
def test_changed_record_is_noticed_with_a_new_report(
    reference, queries: Path, result: Path, tmp_path: Path, capsys, path: str, value: object, said: str
) -> None:
    code, err = verified_after(edited(path, value), reference, queries, result, tmp_path, capsys)
    assert code == DIFFERS
    assert said in err
    assert "report.html" not in err


def test_made_up_reasons_to_skip_are_noticed(reference, queries: Path, result: Path, tmp_path: Path, capsys) -> None:
    def edit(run: dict) -> None:
        run["skipped"] = [{"path": "other.nii.gz", "reason": "other.nii.gz: is broken"}]
        run["counts"]["skipped"] = 1

    code, err = verified_after(edit, reference, queries, result, tmp_path, capsys)
    assert code == DIFFERS
    assert "run.json: says that 1 file could not be examined; of the files given 0 cannot" in err


def verified_after(edit: Callable[[dict], None], reference, queries, result, tmp_path, capsys) -> tuple[int, str]:
    """Exit code and errors for a result whose record was edited and whose report was then written again."""
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    run = json.loads((other / "run.json").read_text(encoding="utf-8"))
    edit(run)
    (other / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert main(["report", str(other)]) == 0
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    return code, err


def test_result_of_another_reference_does_not_hold(tiny, queries: Path, result: Path, capsys) -> None:
    code, _, err = verify(capsys, tiny.reference, "--result", result, "--queries", queries)
    assert code == DIFFERS
    assert "was made with the reference" in err


@pytest.mark.parametrize("name", ["run.json", "slices.csv", "alignments.csv", "inputs.csv", "pictures.safetensors"])
def test_result_without_one_of_its_files_does_not_hold(
    reference, queries: Path, result: Path, tmp_path: Path, capsys, name: str
) -> None:
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    (other / name).unlink()
    code, out, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "is not a complete result (" in err
    assert f"{name}: No such file or directory" in err
    assert "1 does not hold" in out


def test_result_without_report_and_maps_does_not_hold(reference, queries: Path, result, tmp_path, capsys) -> None:
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    (other / "report.html").unlink()
    shutil.rmtree(other / "agreement")
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "report.html: is missing" in err
    assert "agreement/: is missing, though slices are copies" in err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("slices.csv", "its tables have 3 volumes and 14 slices"),
        ("volumes.csv", "its tables have 2 volumes and 15 slices"),
        ("inputs.csv", "run.json: its inputs are not those of inputs.csv"),
    ],
)
def test_result_without_one_of_its_rows_does_not_hold(
    reference, queries: Path, result: Path, tmp_path: Path, capsys, table: str, said: str
) -> None:
    other = changed(result, tmp_path / "changed", table, lambda rows: rows.pop())
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert said in err


def test_result_without_any_inputs_does_not_hold(reference, queries: Path, result: Path, tmp_path, capsys) -> None:
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    (other / "inputs.csv").write_text("volume,file,sha256\n", encoding="utf-8")
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "its inputs are not those of inputs.csv" in err


@pytest.mark.parametrize("content", [b"no pictures", b""])
def test_damaged_pictures_are_named(reference, queries: Path, result, tmp_path: Path, capsys, content: bytes) -> None:
    other = Path(shutil.copytree(result, tmp_path / "changed"))
    (other / "pictures.safetensors").write_bytes(content)
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "pictures.safetensors does not hold the pictures that score wrote" in err


def test_pictures_of_another_program_are_named(reference, queries: Path, result, tmp_path: Path, capsys) -> None:
    from safetensors.numpy import save_file

    other = Path(shutil.copytree(result, tmp_path / "changed"))
    save_file({"none": np.zeros(1, np.uint8)}, other / "pictures.safetensors")
    code, _, err = verify(capsys, reference, "--result", other, "--queries", queries)
    assert code == DIFFERS
    assert "pictures.safetensors does not hold the pictures that score wrote" in err


@pytest.mark.parametrize("made", [True, False])
def test_what_is_no_result_is_told_first(reference: Path, queries: Path, tmp_path: Path, capsys, made: bool) -> None:
    if made:
        (tmp_path / "other").mkdir()
    code, out, err = verify(capsys, reference, "--result", tmp_path / "other", "--queries", queries)
    assert (code, out) == (WRONG_USE, "")
    assert f"--result {tmp_path / 'other'}: is no result; expected the folder that" in err


def test_uncalibrated_results_hold_too(tiny, tmp_path: Path, capsys) -> None:
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 0
    code, out, _ = verify(capsys, tiny.reference, "--result", tmp_path, "--queries", tiny.training)
    assert code == HOLDS
    assert "3 volumes, 9 slices" in out
