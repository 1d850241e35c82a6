"""Finding volumes and their subjects: folders, lists, tables, BIDS and DICOM trees, patterns."""

import os
from pathlib import Path

import numpy as np
import phantoms
import pytest
from memorization_index.cohort import Cohort, find_volumes
from memorization_index.errors import MemorizationIndexError
from memorization_index.volumes import read_volume
from PIL import Image

SCAN = phantoms.anatomy(0)[5:7]


def scan(path: Path) -> Path:
    return phantoms.write(path, SCAN)


def table_of(cohort: Cohort) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.subject, entry.source) for entry in cohort.entries}


def reasons(cohort: Cohort) -> str:
    return "\n".join(skipped.reason for skipped in cohort.skipped)


# --------------------------------------------------------------------------------------------------------------------
# Folders and files


def test_folder_is_searched_below_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "deep/er/c.nrrd", "a.mha", "deep/z.npy"):
        if name.endswith(".npy"):
            np.save(tmp_path / name, SCAN)
        else:
            scan(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    cohort = find_volumes([tmp_path])
    assert [e.name for e in cohort.entries] == ["a.mha", "b.nii.gz", "deep/er/c.nrrd", "deep/z.npy"]
    assert cohort.skipped == []
    assert table_of(cohort)["a.mha"] == ("a.mha", "one a file")
    assert cohort.subject_sources == {"one a file": 4}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.nii", ".b.nii", "._a.nii", ".git/c.nii", "x/.cache/d.nii"):
        scan(tmp_path / name)
    assert [e.name for e in find_volumes([tmp_path]).entries] == ["a.nii"]


def test_hidden_folder_that_was_given_is_searched(tmp_path: Path) -> None:
    scan(tmp_path / ".hidden" / "a.nii")
    assert len(find_volumes([tmp_path / ".hidden"]).entries) == 1


def test_references_among_the_scans_are_passed_over(tmp_path: Path, tiny) -> None:
    """A reference's arrays end in .npy as well; a second build of a folder that holds the first takes no harm."""
    scan(tmp_path / "a.nii")
    (tmp_path / "reference").symlink_to(tiny.reference)
    assert [e.name for e in find_volumes([tmp_path]).entries] == ["a.nii"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    scan(tmp_path / "store" / "a.nii")
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "sub-01").symlink_to(tmp_path / "store")
    (tmp_path / "cohort" / "again").symlink_to(tmp_path / "cohort")
    cohort = find_volumes([tmp_path / "cohort"])
    assert table_of(cohort) == {"sub-01/a.nii": ("sub-01", "BIDS")}


def test_link_to_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "annex" / "b.nii")
    cohort = find_volumes([tmp_path])
    assert len(cohort.entries) == 1
    assert "b.nii: is a link to a file that is not there" in reasons(cohort)


def test_same_file_twice_is_used_once(tmp_path: Path) -> None:
    path = scan(tmp_path / "a.nii")
    (tmp_path / "list.txt").write_text("a.nii\n")
    (tmp_path / "alias.nii").symlink_to(path)
    cohort = find_volumes([path, tmp_path, tmp_path / "list.txt"])
    assert [e.name for e in cohort.entries] == ["a.nii"]
    assert cohort.skipped == []
    assert [Path(name).name for name in cohort.repeated] == ["a.nii", "alias.nii", "a.nii"]


def test_equal_names_in_two_folders_stay_two_volumes_and_subjects(tmp_path: Path) -> None:
    paths = [scan(tmp_path / folder / "001.nii") for folder in ("site-a", "site-b")]
    for given in ([tmp_path / "site-a", tmp_path / "site-b"], paths, paths[::-1]):
        assert set(table_of(find_volumes(given)).items()) == {
            ("site-a/001.nii", ("site-a/001.nii", "one a file")),
            ("site-b/001.nii", ("site-b/001.nii", "one a file")),
        }


def test_non_ascii_and_very_long_paths(tmp_path: Path) -> None:
    long = tmp_path.joinpath(*["Universitätsklinikum Düsseldorf – Köpfe" * 3] * 6)
    path = scan(long / "sub-07" / "頭部 MRI 🧠.nii.gz")
    assert len(str(path).encode()) > 700
    cohort = find_volumes([tmp_path])
    assert [e.subject for e in cohort.entries] == ["sub-07"]
    np.testing.assert_array_equal(read_volume(cohort.entries[0].path).voxels, SCAN)


def test_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    try:
        os.rename(scan(tmp_path / "b.nii"), os.fsencode(tmp_path) + b"/b\xe4.nii")
    except OSError:
        pytest.skip("this file system stores names as Unicode text only")
    cohort = find_volumes([tmp_path])
    assert [e.name for e in cohort.entries] == ["a.nii"]
    assert r"b\xe4.nii: has a name that is not UTF-8 text" in reasons(cohort)


def test_what_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MemorizationIndexError, match=r"gone: does not exist; expected"):
        find_volumes([tmp_path / "gone"])
    with pytest.raises(MemorizationIndexError, match=r"does not exist"):
        find_volumes([tmp_path / ("x" * 5000)])
    with pytest.raises(MemorizationIndexError, match=r"empty: holds no image; expected NIfTI"):
        find_volumes([tmp_path / "empty"])


def test_file_of_no_known_format_is_told(tmp_path: Path) -> None:
    (tmp_path / "scan.mgz").write_bytes(b"x")
    cohort = find_volumes([scan(tmp_path / "a.nii"), tmp_path / "scan.mgz"])
    assert len(cohort.entries) == 1
    assert "scan.mgz: has no known format; expected NIfTI" in reasons(cohort)


# --------------------------------------------------------------------------------------------------------------------
# Tables and lists


@pytest.mark.parametrize(
    ("name", "header", "separator"),
    [
        ("table.csv", ("path", "subject", "volume"), ","),
        ("table.tsv", ("file", "subject_id", "scan_id"), "\t"),
        ("table.csv", ("File", " Subject_ID ", "VOLUME"), ";"),
        ("table.csv", ("scan_id", "path", "subject"), ","),
    ],
)
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_tables(tmp_path: Path, name: str, header: tuple[str, ...], separator: str, bom: str, line_end: str) -> None:
    """Paths are relative to the table; the volume's name is used as it is."""
    scan(tmp_path / "scans" / "1.nii")
    kinds = {"path": "scans/1.nii", "file": "scans/1.nii", "subject": "Müller", "volume": "visit, 1"}
    kinds |= {"subject_id": kinds["subject"], "scan_id": kinds["volume"]}
    cells = [f'"{kinds[column.strip().lower()]}"' for column in header]
    text = bom + line_end.join([separator.join(header), separator.join(cells), ""])
    (tmp_path / name).write_bytes(text.encode())
    assert table_of(find_volumes([tmp_path / name])) == {"visit, 1": ("Müller", "table")}


def test_table_without_subjects_or_names(tmp_path: Path) -> None:
    scan(tmp_path / "1.nii")
    scan(tmp_path / "sub-2.nii")
    (tmp_path / "table.csv").write_text("path,subject\n1.nii,\nsub-2.nii\n")
    assert table_of(find_volumes([tmp_path / "table.csv"])) == {
        "1.nii": ("1.nii", "one a file"),
        "sub-2.nii": ("sub-2", "BIDS"),
    }


@pytest.mark.parametrize("kind", ["table.csv", "list.txt"])
def test_absolute_and_climbing_paths_give_short_names(tmp_path: Path, kind: str) -> None:
    """No folder of this machine gets into names, and names stay unique."""
    paths = [scan(tmp_path / "store" / name / "t1.nii") for name in ("p1", "p2")]
    here = tmp_path / "lists" / kind
    here.parent.mkdir()
    for lines in (
        [str(p) for p in paths],
        ["../store/p1/t1.nii", "../store/p2/t1.nii"],
        [str(paths[0]), "../store/p2/t1.nii"],
    ):
        here.write_text("\n".join(["path", *lines] if kind == "table.csv" else lines))
        assert [e.name for e in find_volumes([here]).entries] == ["p1/t1.nii", "p2/t1.nii"]
    here.write_text("\n".join(["path", str(paths[0])] if kind == "table.csv" else [str(paths[0])]))
    assert [e.name for e in find_volumes([here]).entries] == ["t1.nii"]


def test_names_given_twice_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        scan(tmp_path / f"{name}.nii")
    (tmp_path / "table.csv").write_text("path,subject,volume\na.nii,s1,t1\nb.nii,s2,t1\nc.nii,s2,t1\n")
    assert sorted(table_of(find_volumes([tmp_path / "table.csv"]))) == ["s1/t1", "s2/t1", "s2/t1 (2)"]


def test_pictures_of_one_volume_are_its_slices(tmp_path: Path) -> None:
    pictures = [(image // 8).astype(np.uint8) for image in phantoms.anatomy(3)]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i:02d}.png")
    rows = "".join(f"{i:02d}.png,{volume}\n" for i in range(12) for volume in ["v1" if i < 7 else "v2"])
    (tmp_path / "table.csv").write_text("file,scan_id\n" + rows)
    cohort = find_volumes([tmp_path / "table.csv"])
    assert {e.name: len(e.files) for e in cohort.entries} == {"v1": 7, "v2": 5}
    assert table_of(cohort)["v1"] == ("v1", "one a file")
    read = read_volume(cohort.entries[1].files)
    assert read.is_image
    np.testing.assert_array_equal(read.voxels, pictures[7:])


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    (tmp_path / "empty").mkdir()
    lines = ["path,subject", "a.nii,s", "gone.nii,s", ",s", "table.csv,s", "empty,s", f"{'x' * 4000}.nii,s"]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    cohort = find_volumes([tmp_path / "table.csv"])
    assert len(cohort.entries) == 1
    assert len(cohort.skipped) == 4
    assert "gone.nii: does not exist; expected an image" in reasons(cohort)
    assert "table.csv: has no known format" in reasons(cohort)
    assert "empty: holds no image" in reasons(cohort)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name,subject\na.nii,s\n", r"has columns name, subject; expected a column 'path' or 'file'"),
        (b"", r"has columns none; expected a column"),
        (b"path,subject\n", r"has no row with a path"),
        ("path,subject\na.nii,Müller\n".encode("latin-1"), r"is not UTF-8 text; expected CSV"),
        ("path,subject\na.nii,s\n".encode("utf-16"), r"is not UTF-8 text; expected CSV"),
        (b'path,subject\n"' + b"x" * 200_000 + b'",s\n', r"is not a table"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(MemorizationIndexError, match=expected) as caught:
        find_volumes([path])
    assert str(path) in str(caught.value)


def test_list_of_files_and_folders(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii")
    scan(tmp_path / "more" / "b.nii")
    (tmp_path / "list.txt").write_bytes("\ufeffa.nii\r\n\r\nmore\r\ngone.nii\r\n".encode())
    cohort = find_volumes([tmp_path / "list.txt"])
    assert [e.name for e in cohort.entries] == ["a.nii", "more/b.nii"]
    assert "gone.nii: does not exist" in reasons(cohort)
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(MemorizationIndexError, match=r"list.txt: is empty; expected one path a line"):
        find_volumes([tmp_path / "list.txt"])


# --------------------------------------------------------------------------------------------------------------------
# Subjects


def test_bids_tree(tmp_path: Path) -> None:
    for name in (
        "sub-01/ses-1/anat/sub-01_ses-1_T1w",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w",
        "sub-AB2/anat/sub-AB2_T2w",
    ):
        scan(tmp_path / f"{name}.nii.gz")
    cohort = find_volumes([tmp_path])
    assert [e.subject for e in cohort.entries] == ["sub-01", "sub-01", "sub-AB2"]
    # Given as the subject's own folder or file, it is the same subject.
    assert [e.subject for e in find_volumes([tmp_path / "sub-01"]).entries] == ["sub-01", "sub-01"]
    assert find_volumes([cohort.entries[2].path]).entries[0].subject == "sub-AB2"


def test_folder_far_above_names_no_subject(tmp_path: Path) -> None:
    scan(tmp_path / "sub-millimeter" / "data" / "cohort" / "scans" / "raw" / "a.nii")
    [entry] = find_volumes([tmp_path / "sub-millimeter" / "data" / "cohort"]).entries
    assert (entry.subject, entry.source) == ("scans/raw/a.nii", "one a file")


@pytest.mark.parametrize("pattern", [r"(?P<subject>pat\d+)_", r"(pat\d+)_", r"(?P<site>\w)-(?P<subject>pat\d+)"])
def test_pattern(tmp_path: Path, pattern: str) -> None:
    for name in ("a-pat01_t1", "a-pat01_t2", "b-pat02_t1"):
        scan(tmp_path / f"{name}.nii")
    cohort = find_volumes([tmp_path], pattern)
    assert [(e.subject, e.source) for e in cohort.entries] == [("pat01", "pattern")] * 2 + [("pat02", "pattern")]


def test_files_that_a_pattern_does_not_match_are_by_themselves(tmp_path: Path) -> None:
    for name in ("pat01_t1", "other"):
        scan(tmp_path / f"{name}.nii")
    assert find_volumes([tmp_path], r"(pat\d+)").subject_sources == {"one a file": 1, "pattern": 1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("pat(", r"--subjects pat\(: it is neither a file nor a regular expression \(missing \), .*expected a table"),
        (r"pat\d+", r"the expression has no group; expected"),
        ("subjects.csv", r"there is no such file; expected a table"),
        (r"(case\d+)", r"names the subject of none of the 1 files"),
        ("(" + "x" * 5000 + ")", r"names the subject of none of the 1 files"),
    ],
)
def test_bad_patterns(tmp_path: Path, pattern: str, expected: str) -> None:
    scan(tmp_path / "pat01.nii")
    with pytest.raises(MemorizationIndexError, match=expected):
        find_volumes([tmp_path], pattern)


def test_table_of_subjects(tmp_path: Path) -> None:
    """Rows name files or the folders around them, and outweigh what names say."""
    for name in ("scans/sub-01.nii", "scans/late/2.nii", "scans/late/3.nii", "scans/4.nii"):
        scan(tmp_path / name)
    (tmp_path / "who.csv").write_text("path,subject\nscans/sub-01.nii,Ada\nscans/late,Berta\n")
    cohort = find_volumes([tmp_path / "scans"], tmp_path / "who.csv")
    assert table_of(cohort) == {
        "4.nii": ("4.nii", "one a file"),
        "late/2.nii": ("Berta", "table"),
        "late/3.nii": ("Berta", "table"),
        "sub-01.nii": ("Ada", "table"),
    }
    (tmp_path / "who.csv").write_text("path,person\nscans/4.nii,Ada\n")
    with pytest.raises(MemorizationIndexError, match=r"who.csv: has columns path, person; expected a column 'subject'"):
        find_volumes([tmp_path / "scans"], tmp_path / "who.csv")
    (tmp_path / "who.csv").write_text("path,subject\nother.nii,Ada\n")
    with pytest.raises(MemorizationIndexError, match=r"names the subject of none of the 4 files"):
        find_volumes([tmp_path / "scans"], tmp_path / "who.csv")


# --------------------------------------------------------------------------------------------------------------------
# DICOM


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """Two patients; the first has two series in one folder, the second files without an ending."""
    for number, subject in enumerate((1, 2)):
        phantoms.write_dicom(tmp_path / f"series-{number}", phantoms.anatomy(subject), "ID 17", f"1.2.3.{subject}")
    (tmp_path / "both").mkdir()
    for number in (0, 1):
        for path in (tmp_path / f"series-{number}").iterdir():
            path.rename(tmp_path / "both" / f"{number}-{path.name}")
        (tmp_path / f"series-{number}").rmdir()
    for path in phantoms.write_dicom(tmp_path / "second", phantoms.anatomy(3)[:4], "ID 18", "1.2.3.9"):
        path.rename(path.with_suffix(""))
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    return tmp_path


def test_dicom_tree(dicom: Path) -> None:
    cohort = find_volumes([dicom])
    assert table_of(cohort) == {
        "both/0-001.dcm": ("ID 17", "DICOM PatientID"),
        "both/1-001.dcm": ("ID 17", "DICOM PatientID"),
        "second/001": ("ID 18", "DICOM PatientID"),
    }
    assert cohort.skipped == []
    for entry, subject in zip(cohort.entries, (1, 2), strict=False):
        np.testing.assert_array_equal(read_volume(entry.files).voxels, phantoms.anatomy(subject))


def test_dicom_files_given_one_by_one_are_their_series(dicom: Path) -> None:
    cohort = find_volumes(sorted((dicom / "both").iterdir(), reverse=True))
    assert table_of(cohort) == {
        "0-001.dcm": ("ID 17", "DICOM PatientID"),
        "1-001.dcm": ("ID 17", "DICOM PatientID"),
    }
    read = {e.name: read_volume(e.files).voxels for e in cohort.entries}
    np.testing.assert_array_equal(read["0-001.dcm"], phantoms.anatomy(1))


def test_dicom_folder_in_a_table(dicom: Path) -> None:
    (dicom / "table.csv").write_text("path,subject,volume\nsecond,Ada,head\n")
    cohort = find_volumes([dicom / "table.csv"])
    assert table_of(cohort) == {"head": ("Ada", "table")}
    assert len(cohort.entries[0].files) == 4


def test_damaged_dicom_file_is_told(dicom: Path) -> None:
    (dicom / "second" / "002").write_bytes((dicom / "second" / "002").read_bytes()[:300])
    (dicom / "second" / "notes.dcm").write_text("no DICOM at all")
    cohort = find_volumes([dicom / "second"])
    assert [len(e.files) for e in cohort.entries] == [3]
    assert "002: is not an image of a DICOM series; expected a complete DICOM file" in reasons(cohort)
    assert "notes.dcm: is not an image" in reasons(cohort)
