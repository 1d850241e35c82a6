"""What it says when things are wrong: one sentence that names the file, what was expected, and the remedy.

All bad files lie among good ones in one training folder and one query folder; both commands go on and list each.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from memorization_index.cli import main
from PIL import Image

GOOD = phantoms.anatomy(0)[4:7]


def cut(path: Path, fraction: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])


def truncated(path: Path, fraction: float = 0.6) -> None:
    cut(phantoms.write(path, phantoms.anatomy(1)), fraction)


def with_value(path: Path, value: float) -> None:
    voxels = GOOD.astype(np.float32)
    voxels[1, 20, 20] = value
    phantoms.write(path, voxels)


def detached(path: Path) -> None:
    phantoms.write(path, phantoms.anatomy(1))
    cut(path.with_suffix(".raw"), 0.5)


def picture(path: Path) -> None:
    Image.fromarray((GOOD[0] // 8).astype(np.uint8)).save(path)


def four_dimensional(path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([phantoms.itk_image(GOOD)] * 3), str(path))


def colored(path: Path) -> None:
    sitk.WriteImage(sitk.Compose([phantoms.itk_image(GOOD)] * 3), str(path))


def coronal(path: Path) -> None:
    phantoms.write(path, phantoms.anatomy(1), (1.0, 5.0, 1.0))


def flipped_bit(path: Path) -> None:
    data = bytearray(phantoms.write(path, phantoms.anatomy(1)).read_bytes())
    data[-6] ^= 0x10  # in the checksum of the compressed stream
    path.write_bytes(data)


#: File name → how it comes about, and what is said of it.
BAD = {
    "truncated.nii": (truncated, r"is truncated \(its header announces 46432 bytes, fewer are there\)"),
    "truncated.nii.gz": (truncated, r"is truncated"),
    "barely.nii.gz": (lambda p: truncated(p, 0.99), r"is truncated"),
    "headless.nii": (lambda p: truncated(p, 0.005), r"does not begin with a NIfTI-1 header"),
    "headless.nii.gz": (lambda p: truncated(p, 0.01), r"is truncated"),
    "damaged.nii.gz": (flipped_bit, r"is (damaged|truncated|not of the format)"),
    "truncated.nrrd": (truncated, r"is truncated, or the data file that belongs to it"),
    "truncated.mha": (truncated, r"is truncated, or the data file that belongs to it"),
    "detached.mhd": (detached, r"is truncated, or the data file that belongs to it is missing or shorter"),
    "lonely.nhdr": (
        lambda p: (phantoms.write(p, GOOD), p.with_suffix(".raw").unlink()),
        r"is truncated, or the data file that belongs to it is missing",
    ),
    "empty.nii": (lambda p: p.write_bytes(b""), r"is empty"),
    "empty.nrrd": (lambda p: p.write_bytes(b""), r"is empty"),
    "text.nii.gz": (lambda p: p.write_text("moved to the archive\n" * 40), r"is not of the format that its name says"),
    "text.mha": (lambda p: p.write_text("moved"), r"is not of the format that its name says"),
    "text.npy": (lambda p: p.write_text("moved"), r"is not of the format that its name says"),
    "text.png": (lambda p: p.write_text("moved"), r"is not of the format that its name says"),
    "nan.nii.gz": (lambda p: with_value(p, np.nan), r"contains 1 voxels that are NaN or infinite; expected finite"),
    "nan.nii": (lambda p: with_value(p, np.nan), r"contains 1 voxels that are NaN or infinite; expected finite"),
    "minus-inf.nii.gz": (lambda p: with_value(p, -np.inf), r"contains 1 voxels that are NaN or infinite"),
    "nan.mha": (lambda p: with_value(p, np.nan), r"contains 1 voxels that are NaN or infinite"),
    "inf.nrrd": (lambda p: with_value(p, np.inf), r"contains 1 voxels that are NaN or infinite; expected finite"),
    "constant.nii.gz": (
        lambda p: phantoms.write(p, np.full_like(GOOD, 7)),
        r"every slice is constant or empty; expected an image that shows anatomy",
    ),
    "series.nii.gz": (four_dimensional, r"is a 4-D file of size 40x48x3x3; expected one 3-D volume, so split it"),
    "color.nrrd": (colored, r"has 3 values a voxel .* expected one scalar intensity"),
    "picture.png": (picture, r"is a 2-D image among 3-D volumes .*; expected 3-D volumes"),
    "coronal.nii.gz": (
        coronal,
        r"was acquired in coronal slices .*; expected axial slices, so (use a reference|build another)",
    ),
    "gone.nii.gz": (lambda p: p.symlink_to("annex.nii.gz"), r"is a link to a file that is not there"),
    "Kopf–頭部.nii.gz": (truncated, r"is truncated"),
    "n" * 200 + ".nii": (truncated, r"is truncated"),
}
#: Good files with names that are hard.
HARD_NAMES = ("Schädel – MRT 頭部 🧠.nii.gz", "l" * 200 + ".nii.gz", "with, comma; and 'quotes' \"too\".nii.gz")


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for subject in range(3):
        phantoms.write(folder / f"sub-{subject:02d}.nii.gz", phantoms.anatomy(subject)[4:7])
    for number, name in enumerate(HARD_NAMES):
        phantoms.write(folder / name, phantoms.anatomy(20 + number)[4:7])
    for name, (spoil, _) in BAD.items():
        spoil(folder / name)
    # One constant slice in a good volume leaves the others.
    one_constant = phantoms.anatomy(5)[4:8].copy()
    one_constant[2] = 100
    phantoms.write(folder / "one-constant-slice.nii.gz", one_constant)
    return folder


@pytest.fixture(scope="module")
def built(bad_folder: Path) -> dict:
    out = bad_folder.parent / "bad-reference"
    assert main(["build", str(bad_folder), "--out", str(out)]) == 0
    return json.loads((out / "manifest.json").read_text())


@pytest.fixture(scope="module")
def scored(bad_folder: Path, reference: Path) -> dict:
    out = bad_folder.parent / "bad-result"
    assert main(["score", str(reference), str(bad_folder), "--out", str(out)]) == 0
    return json.loads((out / "run.json").read_text())


@pytest.mark.parametrize("run", ["built", "scored"])
@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_listed_with_its_reason(run: str, name: str, bad_folder: Path, request) -> None:
    skipped = {entry["path"]: entry["reason"] for entry in request.getfixturevalue(run)["skipped"]}
    # A result leaves the house: it names files without their folders. A reference stays.
    shown = name if run == "scored" else str(bad_folder / name)
    reason = skipped[shown]
    assert reason.startswith(f"{shown}: ")
    assert re.search(BAD[name][1], reason), reason
    assert re.search(r"expected |fetch the file", reason), "says what was expected"
    assert reason.endswith("."), "is a sentence"
    assert "\n" not in reason
    assert not re.search(r"sitk::|0x[0-9a-f]{6}|Traceback|Error\b|allow_pickle", reason), "speaks to people"


@pytest.mark.parametrize("run", ["built", "scored"])
def test_bad_files_do_not_end_the_run(run: str, request) -> None:
    counts = request.getfixturevalue(run)["counts"]
    assert counts["volumes"] == 3 + len(HARD_NAMES) + 1
    assert counts["slices"] == 3 * (3 + len(HARD_NAMES)) + 3
    assert counts["skipped"] == len(BAD)


def test_hard_names_come_through_unchanged(bad_folder: Path, scored: dict, built: dict) -> None:
    import csv

    for table in (
        bad_folder.parent / "bad-result" / "volumes.csv",
        bad_folder.parent / "bad-reference" / "volumes.csv",
    ):
        with table.open(encoding="utf-8", newline="") as stream:
            assert set(HARD_NAMES) <= {row["volume"] for row in csv.DictReader(stream)}
    report = (bad_folder.parent / "bad-result" / "report.html").read_text(encoding="utf-8")
    assert "頭部 🧠" in report


def test_skipped_files_are_told_as_they_are_found(bad_folder: Path, tiny, tmp_path: Path, command) -> None:
    (tmp_path / "queries").mkdir()
    for name in ("truncated.nii", "gone.nii.gz", "sub-00.nii.gz"):
        shutil.copy(bad_folder / name, tmp_path / "queries" / name, follow_symlinks=False)
    result = command("score", tiny.reference, tmp_path / "queries", "--out", tmp_path / "out")
    assert result.code == 0
    assert {Path(e["path"]).name for e in result.of("skipped")} == {"truncated.nii", "gone.nii.gz"}
    assert all(e["reason"].startswith(e["path"]) for e in result.of("skipped"))


# --------------------------------------------------------------------------------------------------------------------
# Whole runs that cannot work


def sentence(result) -> str:
    """The one error of a command that ended with exit code 2."""
    assert result.code == 2
    [error] = result.of("error")
    assert result.events[-1] == error
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    return error["message"]


@pytest.mark.parametrize("name", ["truncated.nii", "constant.nii.gz", "nan.nii.gz", "series.nii.gz"])
def test_nothing_but_a_bad_file(bad_folder: Path, tiny, tmp_path: Path, command, name: str) -> None:
    for result in (
        command("build", bad_folder / name, "--out", tmp_path / "reference"),
        command("score", tiny.reference, bad_folder / name, "--out", tmp_path / "result"),
    ):
        assert re.search(BAD[name][1], sentence(result))
    assert not (tmp_path / "reference").exists()
    assert not (tmp_path / "result").exists()


def test_empty_folder(tmp_path: Path, tiny, command) -> None:
    (tmp_path / "empty").mkdir()
    for result in (
        command("build", tmp_path / "empty", "--out", tmp_path / "reference"),
        command("score", tiny.reference, tmp_path / "empty", "--out", tmp_path / "result"),
    ):
        assert sentence(result).startswith(f"{tmp_path / 'empty'}: holds no image; expected NIfTI, ")


def test_volume_among_pictures(tmp_path: Path, command) -> None:
    for i, image in enumerate(phantoms.anatomy(2)[3:9]):
        Image.fromarray((image // 8).astype(np.uint8)).save(tmp_path / f"{i}.png")
    phantoms.write(tmp_path / "volume.nii.gz", GOOD)
    result = command("build", tmp_path, "--out", tmp_path.parent / f"{tmp_path.name}-reference")
    assert result.code == 0
    [skipped] = result.of("skipped")
    assert "volume.nii.gz: is a 3-D volume among 2-D images; expected 2-D images" in skipped["reason"]
    manifest = json.loads((tmp_path.parent / f"{tmp_path.name}-reference" / "manifest.json").read_text())
    assert manifest["plane"] == "image"
    assert manifest["counts"]["slices"] == 6


def test_query_of_another_plane(tmp_path: Path, tiny, command) -> None:
    coronal(tmp_path / "coronal.nii.gz")
    result = command("score", tiny.reference, tmp_path, "--out", tmp_path / "out")
    assert "was acquired in coronal slices" in sentence(result)
    assert "use a reference built with --plane coronal" in sentence(result)


def test_fewer_than_five_subjects(tmp_path: Path, tiny, command) -> None:
    """Numbers stay empty, matches are given, and it is said."""
    result = command("build", tiny.training, "--out", tmp_path / "reference")
    assert any("3 subjects, fewer than the 5 that calibration needs" in e["message"] for e in result.of("warning"))
    phantoms.write(tmp_path / "queries" / "copy.nii.gz", phantoms.anatomy(1)[4:7])
    phantoms.write(tmp_path / "queries" / "new.nii.gz", phantoms.anatomy(50)[4:7])
    done = command("score", tmp_path / "reference", tmp_path / "queries", "--out", tmp_path / "out").of("done")[0]
    assert done["verdicts"] == {"copy": 1, "suspicious": 0, "no evidence": 0, "uncalibrated": 1}
    lines = (tmp_path / "out" / "slices.csv").read_text().splitlines()
    names = lines[0].split(",")
    for line in lines[1:]:
        row = dict(zip(names, line.split(","), strict=False))
        assert [row[c] for c in ("mi", "oni", "p_value", "q_value")] == [""] * 4
        assert row["similarity"]
        assert row["match_subject"]
        assert row["ncc"]


@pytest.mark.parametrize("count", [1, 2])
def test_one_subject_or_one_slice_is_enough_to_find_a_copy(tmp_path: Path, command, count: int) -> None:
    for subject in range(count):
        phantoms.write(tmp_path / "training" / f"{subject}.nii.gz", phantoms.anatomy(subject)[4:6])
    assert command("build", tmp_path / "training", "--out", tmp_path / "reference").code == 0
    result = command("score", tmp_path / "reference", tmp_path / "training", "--out", tmp_path / "out")
    assert result.of("done")[0]["verdicts"]["copy"] == count


def test_same_picture_of_two_subjects_is_told(tmp_path: Path, command) -> None:
    for name, subject in (("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4), ("copy-of-b", 1)):
        phantoms.write(tmp_path / "training" / f"{name}.nii.gz", phantoms.anatomy(subject)[4:7])
    result = command("build", tmp_path / "training", "--out", tmp_path / "reference")
    manifest = json.loads((tmp_path / "reference" / "manifest.json").read_text())
    assert manifest["training_duplicates"] == [["b.nii.gz", "copy-of-b.nii.gz"]]
    assert any("b.nii.gz and copy-of-b.nii.gz" in e["message"] for e in result.of("warning"))
    assert any("name no subject" in e["message"] for e in result.of("warning"))


# --------------------------------------------------------------------------------------------------------------------
# References that are none, newer, or changed


@pytest.mark.parametrize("kind", ["gone", "empty", "file", "result"])
def test_what_is_no_reference(tmp_path: Path, tiny, command, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_text("x")
    elif kind != "gone":
        path.mkdir()
    if kind == "result":
        assert command("score", tiny.reference, tiny.training, "--out", path).code == 0
    expected = f"{path}: is not a reference (manifest.json or its checksum is not there); expected the folder"
    assert sentence(command("score", path, tiny.training, "--out", tmp_path / "out")).startswith(expected)
    assert main(["verify", str(path)]) == 2


def change_manifest(folder: Path, **changes: object) -> None:
    """Rewrite a manifest as another program might, checksum and all."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    text = json.dumps({k: v for k, v in manifest.items() if v is not None})
    (folder / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")


@pytest.fixture
def copied(tmp_path: Path, tiny) -> Path:
    return Path(shutil.copytree(tiny.reference, tmp_path / "reference"))


def test_newer_schema(copied: Path, tiny, tmp_path: Path, command, capsys) -> None:
    change_manifest(copied, schema=99)
    message = sentence(command("score", copied, tiny.training, "--out", tmp_path / "out"))
    assert "was written by a newer version (schema 99, expected at most 1); update memorization-index" in message
    assert main(["verify", str(copied)]) == 2
    assert "newer version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "something else"},
        {"schema": None},
        {"schema": "1"},
        {"files": None},
        {"files": ["a"]},
        {"encoder": {"name": "spectral"}},
        {"counts": 3},
        {"calibration": None},
        {"plane": None},
    ],
)
def test_manifest_that_another_program_wrote(copied: Path, tiny, tmp_path: Path, command, changes: dict) -> None:
    change_manifest(copied, **changes)
    assert str(copied) in sentence(command("score", copied, tiny.training, "--out", tmp_path / "out"))


def test_manifest_that_lists_a_file_outside(copied: Path, tiny, tmp_path: Path, command) -> None:
    files = json.loads((copied / "manifest.json").read_text())["files"]
    change_manifest(copied, files=files | {"../../secret.npy": "0" * 64})
    message = sentence(command("score", copied, tiny.training, "--out", tmp_path / "out"))
    assert "lists '../../secret.npy', which lies outside the reference" in message


def bundle_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_flipped_byte_in_any_file(copied: Path, tiny, tmp_path: Path, command, capsys, place: str) -> None:
    for name in bundle_files(copied):
        path = copied / name
        data = path.read_bytes()
        spoiled = bytearray(data)
        spoiled[{"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[place]] ^= 1
        path.write_bytes(spoiled)
        capsys.readouterr()
        assert main(["verify", str(copied)]) == 2, name
        message = capsys.readouterr().err
        assert ("manifest.json" if name == "manifest.json.sha256" else name) in message
        assert "changed after the build" in message
        assert "restore the reference from a backup or build it again" in message
        assert sentence(command("score", copied, tiny.training, "--out", tmp_path / "out")) in message
        path.write_bytes(data)
    assert main(["verify", str(copied)]) == 0


def test_file_that_is_missing_or_too_many(copied: Path, capsys) -> None:
    for name in bundle_files(copied):
        (copied / name).rename(copied.parent / "aside")
        assert main(["verify", str(copied)]) == 2, name
        assert name.removesuffix(".sha256") in capsys.readouterr().err
        (copied.parent / "aside").rename(copied / name)
    (copied / "features-spectral-00001.npy").write_bytes(b"x")
    assert main(["verify", str(copied)]) == 2
    assert "features-spectral-00001.npy: does not belong to the reference" in capsys.readouterr().err
    (copied / "features-spectral-00001.npy").unlink()
    (copied / ".DS_Store").write_bytes(b"a file manager was here")
    assert main(["verify", str(copied)]) == 0


def test_verify_names_every_changed_file(copied: Path, capsys) -> None:
    for name in ("slices.csv", "null.safetensors"):
        with (copied / name).open("ab") as stream:
            stream.write(b"\n")
    assert main(["verify", str(copied)]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert sorted(Path(line.split(": ")[0]).name for line in printed) == ["null.safetensors", "slices.csv"]


# --------------------------------------------------------------------------------------------------------------------
# Training volumes that are not where they were


@pytest.fixture
def movable(tmp_path: Path) -> Path:
    for subject in range(2):
        phantoms.write(tmp_path / "old" / f"sub-{subject}" / "t1.nii.gz", phantoms.anatomy(subject)[4:7])
    assert main(["build", str(tmp_path / "old"), "--out", str(tmp_path / "reference")]) == 0
    phantoms.write(tmp_path / "copy.nii.gz", phantoms.anatomy(1)[4:7])
    return tmp_path


def classes(folder: Path) -> set[str]:
    lines = (folder / "slices.csv").read_text().splitlines()
    column = lines[0].split(",").index("match_class")
    return {line.split(",")[column] for line in lines[1:]}


def test_training_volumes_were_moved(movable: Path, command) -> None:
    (movable / "old").rename(movable / "new")
    arguments = ("score", movable / "reference", movable / "copy.nii.gz", "--out", movable / "out")
    result = command(*arguments)
    assert result.code == 0
    assert any(
        "name the folder that now holds the training volumes with --training-root" in e["message"]
        for e in result.of("warning")
    )
    assert classes(movable / "out") == {""}
    run = json.loads((movable / "out" / "run.json").read_text())
    assert run["counts"]["training_volumes_missing"] >= 1
    assert run["verdicts"] == {"copy": 0, "suspicious": 0, "no evidence": 0, "uncalibrated": 1}
    last = result.of("warning")[-1]["message"]
    assert last.startswith(f"{run['counts']['training_volumes_missing']} of 2 training volumes could not be read")
    assert "no slice could be compared is uncalibrated, but where its p" in last
    result = command(*arguments, "--training-root", movable / "new")
    assert ["holds a result already" in e["message"] for e in result.of("warning")] == [True]
    assert classes(movable / "out") == {"exact"}


def test_training_volume_was_changed(movable: Path, command) -> None:
    for subject in range(2):
        phantoms.write(movable / "old" / f"sub-{subject}" / "t1.nii.gz", phantoms.anatomy(30 + subject)[4:7])
    result = command("score", movable / "reference", movable / "copy.nii.gz", "--out", movable / "out")
    assert result.code == 0
    assert any(
        "is not the training volume sub-1/t1.nii.gz that the reference was built on" in e["message"]
        for e in result.of("warning")
    )
    assert classes(movable / "out") == {""}


def test_training_volume_saved_in_another_format_is_the_same(movable: Path, command) -> None:
    for path in (movable / "old").rglob("*.nii.gz"):
        image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAS")
        sitk.WriteImage(image, str(path))
    command("score", movable / "reference", movable / "copy.nii.gz", "--out", movable / "out")
    assert classes(movable / "out") == {"exact"}


# --------------------------------------------------------------------------------------------------------------------
# Places that cannot be written


def test_output_that_would_destroy_something(tiny, tmp_path: Path, command) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "volumes.csv").write_text("path\nmine.nii\n")
    (tmp_path / "folder" / "manifest.json").write_text("{}")  # of a web page, say
    before = {p.name: p.read_bytes() for p in tiny.reference.iterdir()}
    score, build = ("score", tiny.reference, tiny.training, "--out"), ("build", tiny.training, "--out")
    assert "file: is a file; expected a folder" in sentence(command(*score, tmp_path / "file"))
    assert "file: is a file; expected a folder" in sentence(command(*score, tmp_path / "file" / "below"))
    assert "is a reference; expected a folder for results" in sentence(command(*score, tiny.reference))
    assert "folder: holds files (manifest.json) but is not a result" in sentence(command(*score, tmp_path / "folder"))
    assert "file: is a file; expected a folder" in sentence(command(*build, tmp_path / "file"))
    assert "folder: holds files but is not a reference" in sentence(command(*build, tmp_path / "folder"))
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == ["manifest.json", "volumes.csv"]
    assert {p.name: p.read_bytes() for p in tiny.reference.iterdir()} == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc, which nobody can write to")
def test_output_that_cannot_be_written(tiny, command) -> None:
    for result in (
        command("score", tiny.reference, tiny.training, "--out", "/proc/result"),
        command("build", tiny.training, "--out", "/proc/reference"),
    ):
        assert "/proc/" in sentence(result)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--encoder", "nonsense"], r"nonsense'?: is not known; expected"),
        (["--protocol", "mi-v9"], r"--protocol mi-v9: is not known; expected 'mi-v1'"),
        (["--weights", "w.pth"], r"--weights: the embedded encoder 'spectral' has none"),
        (["--subjects", "pat("], r"--subjects pat\(: it is neither a file nor a regular expression"),
        (["--controls", "gone"], r"--controls gone: does not exist"),
        (["--novel", "gone"], r"--novel gone: does not exist"),
        (["--novel", __file__], r"--novel .*\.py: has no known format"),
    ],
)
def test_wrong_settings(tiny, tmp_path: Path, command, arguments: list[str], expected: str) -> None:
    result = command("build", tiny.training, "--out", tmp_path / "reference", *arguments)
    assert re.search(expected, sentence(result))
    assert result.of("progress") == [], "before the work begins"
    assert not (tmp_path / "reference").exists()
