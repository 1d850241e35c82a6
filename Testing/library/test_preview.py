"""What ``preview`` says that ``build`` would take."""

import shutil
from pathlib import Path

import numpy as np
import phantoms
import SimpleITK as sitk
from memorization_index.cli import main
from PIL import Image


def test_preview_leaves_out_what_cannot_be_read(tiny, tmp_path: Path, capsys) -> None:
    shutil.copytree(tiny.training, tmp_path / "scans")
    whole = next(tiny.training.iterdir()).read_bytes()
    (tmp_path / "scans" / "cut.nii.gz").write_bytes(whole[:-100])
    (tmp_path / "scans" / "empty.nii.gz").write_bytes(b"")
    for name in ("text.nii.gz", "text.nrrd", "text.mha", "text.npy", "text.png", "text.dcm"):
        (tmp_path / "scans" / name).write_text("this is no scan, but a text that is long enough for any header" * 20)
    assert main(["preview", str(tmp_path / "scans")]) == 0
    printed = capsys.readouterr()
    assert "3 volumes of 3 subjects" in printed.out
    assert "skipped: 8 files" in printed.out
    assert "empty.nii.gz: is empty" in printed.err


def test_preview_and_build_leave_out_the_same_planes(tmp_path: Path, capsys) -> None:
    """The preview by headers alone; nothing is left to resume where nothing could be used."""
    thick = phantoms.sitk.GetImageFromArray(phantoms.anatomy(1)[:6])
    thick.SetSpacing((1, 1, 5))
    (tmp_path / "scans").mkdir()
    for name in ("a.nii.gz", "a.nrrd", "a.mha"):
        phantoms.sitk.WriteImage(thick, str(tmp_path / "scans" / name))
    for command in (["preview"], ["build", "--out", str(tmp_path / "reference")]):
        main([*command, str(tmp_path / "scans"), "--plane", "coronal"])
        assert capsys.readouterr().err.count("was acquired in axial slices") >= 3
    assert not (tmp_path / ".reference.building").exists()


def test_preview_leaves_out_what_build_leaves_out(tiny, tmp_path: Path, command, capsys) -> None:
    """What headers tell: several volumes in one file, in every format that can hold them, and single images."""
    scans = tmp_path / "scans"
    shutil.copytree(tiny.training, scans)
    several = sitk.JoinSeries([phantoms.itk_image(phantoms.anatomy(number)[4:7]) for number in range(2)])
    for name in ("several.nii.gz", "several.nii", "several.nrrd", "several.mha"):
        sitk.WriteImage(several, str(scans / name))
    np.save(scans / "several.npy", np.zeros((2, 3, 48, 40), np.int16))
    np.save(scans / "image.npy", phantoms.anatomy(0)[5])
    Image.fromarray(phantoms.anatomy(1)[5].astype(np.uint8)).save(scans / "image.png")
    phantoms.write(scans / "flat.nii.gz", phantoms.anatomy(2)[5:6])
    preview = command("preview", scans)
    build = command("build", scans, "--out", tmp_path / "reference")
    assert build.of("done")[0]["counts"]["skipped"] == 8
    assert {e["path"]: e["reason"] for e in preview.of("skipped")} == {
        e["path"]: e["reason"] for e in build.of("skipped")
    }
    assert preview.of("done")[0]["counts"] == {"volumes": 3, "subjects": 3, "skipped": 8}


def test_preview_says_what_build_would_take(tiny, tmp_path: Path, command, capsys) -> None:
    (tmp_path / "scans").mkdir()
    scan = next(tiny.training.iterdir()).read_bytes()
    for number in range(22):
        (tmp_path / "scans" / f"{number:02d}.nii.gz").write_bytes(scan)
    assert main(["preview", str(tmp_path / "scans"), "--plane", "axial"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == ("22 volumes of 22 subjects, each file counts as a person (22); plane: axial; skipped: 0 files")
    assert lines[1] == "By headers alone: build and score read the voxels, and may leave out more."
    assert lines[2] == "00.nii.gz: 1 volume"
    assert lines[22:] == ["… and 2 more (all with --json)", "slices of a volume:", "3: 22 volumes"]
    assert "22 volumes name no subject" in printed.err
    assert "copies are missed: name the subjects" in printed.err
    [done] = command("preview", tiny.training).of("done")
    assert done["plane"] == "axial"
    assert len(done["subjects"]) == 3
    assert [(v["slices"], len(v["files"])) for v in done["volumes"]] == [(3, 1)] * 3


def test_preview_names_the_files_that_are_joined(tmp_path: Path, capsys) -> None:
    for number in range(2):
        phantoms.write_dicom(tmp_path / f"series-{number}", phantoms.anatomy(number), f"P{number}", f"1.2.3.{number}")
    assert main(["preview", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 volumes of 2 subjects, taken from DICOM PatientID (2); plane: axial; skipped: 0 files"
    assert lines[4:] == [
        "slices of a volume:",
        "12: 2 volumes",
        "joined from several files: 2 volumes",
        "series-0/001.dcm: 12 files, 012.dcm to 001.dcm",
        "series-1/001.dcm: 12 files, 012.dcm to 001.dcm",
    ]
