"""Verdicts as DICOM Structured Reports: what they say, whose study they are in, and what validators say of them."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import phantoms
import pydicom
import pytest
from memorization_index.cli import main
from memorization_index.cohort import find_volumes
from memorization_index.scores import Scores
from memorization_index.structured_report import write_structured_reports
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
from highdicom._standard_utils import get_module_attribute_map

ROOT = Path(__file__).resolve().parents[2]

SERIES, NEW = "series/001.dcm", "new.nii.gz"


@pytest.fixture(scope="module")
def made(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Reports on a DICOM series that is a copy, and on a new person's NIfTI file."""
    folder = tmp_path_factory.mktemp("sr")
    phantoms.write_dicom(folder / "queries" / "series", phantoms.anatomy(2)[3:9])
    phantoms.write(folder / "queries" / NEW, phantoms.anatomy(50)[3:9])
    result, out = folder / "result", folder / "sr"
    assert main(["score", str(reference), str(folder / "queries"), "--out", str(result)]) == 0
    assert main(["report", str(result), "--dicom-sr", str(out), "--queries", str(folder / "queries")]) == 0
    scores = Scores.read(result)
    rows = {str(name): row for row, name in enumerate(scores.volumes["volume"])}
    documents = {name: pydicom.dcmread(out / f"{row:04d}.dcm") for name, row in rows.items()}
    return SimpleNamespace(folder=folder, result=result, out=out, scores=scores, rows=rows, documents=documents)


def said(document: pydicom.Dataset) -> dict[str, object]:
    """Name → value of the numbers and codes of the measurement group."""
    measurements = next(i for i in document.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    found = {}
    for item in measurements.ContentSequence[0].ContentSequence:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "CODE":
            found[name] = item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "TEXT":
            found.setdefault(name, []).append(item.TextValue)
    return found


def test_says_what_the_tables_say(made: SimpleNamespace) -> None:
    volumes = made.scores.volumes
    for name, document in made.documents.items():
        row, found = made.rows[name], said(document)
        assert document.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert found["Verdict"] == volumes["verdict"][row]
        assert found["Memorization index"] == pytest.approx(volumes["mi"][row], rel=1e-5)
        assert found["p of the image against new people's scans"] == pytest.approx(volumes["p_value"][row], rel=1e-5)
        assert found["Slices flagged"] == volumes["n_flagged"][row]
        smallest = made.scores.run["calibration"]["smallest_volume_p"]
        assert found["Smallest p of an image that is possible"] == pytest.approx(smallest, rel=1e-5)
        assert found["Limit of the method"] == "Not flagged is not proven novel"
        assert found["Tracking Identifier"] == [name]
        assert f"reference SHA-256 {made.scores.run['reference']['fingerprint']}" in found["Algorithm Parameters"]
    assert said(made.documents[SERIES])["Verdict"] == "copy"


def test_report_on_dicom_lies_in_its_study(made: SimpleNamespace) -> None:
    document = made.documents[SERIES]
    headers = [pydicom.dcmread(path) for path in (made.folder / "queries" / "series").iterdir()]
    assert document.StudyInstanceUID == headers[0].StudyInstanceUID
    assert (document.PatientID, document.PatientName) == (headers[0].PatientID, headers[0].PatientName)
    assert document.SeriesInstanceUID != headers[0].SeriesInstanceUID
    evidence = document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {e.ReferencedSOPInstanceUID for e in evidence} == {h.SOPInstanceUID for h in headers}


def planted(keyword: str) -> object:
    """A value of the kind that an attribute has, which is found again."""
    nested = Dataset()
    nested.CodeMeaning = f"PLANTED {keyword}"[:64]
    kinds = {
        "DA": "19610403", "TM": "010203", "DT": "19610403010203", "AS": "063Y", "DS": "61.5", "IS": "7", "US": 7,
        "FD": 7.0, "UI": "1.2.826.0.1.3680043.8.7", "CS": "O", "SQ": [nested], "SH": f"PLANTED {keyword}"[:16],
        "PN": f"PLANTED^{keyword}", "OB": b"PLANTED ",
    }  # fmt: skip
    return kinds.get(dictionary_VR(keyword), f"PLANTED {keyword}"[:64])


def test_of_a_header_is_taken_what_the_documentation_lists(made: SimpleNamespace, tmp_path: Path) -> None:
    """Every attribute that DICOM has for a patient and a study is planted in the headers of a query."""
    modules = ("patient", "general-study", "patient-study", "clinical-trial-subject", "clinical-trial-study")
    attributes = get_module_attribute_map()
    keywords = {a["keyword"] for module in modules for a in attributes[module] if not a["path"]}
    keywords -= {"StudyInstanceUID"}

    def plant(data: Dataset, _number: int) -> None:
        for keyword in keywords:
            setattr(data, keyword, planted(keyword))
        data.InstitutionName = data.OperatorsName = data.StationName = data.DeviceSerialNumber = "PLANTED"

    phantoms.write_dicom_where(tmp_path / "series", phantoms.anatomy(2)[3:9], plant)
    files = {SERIES: find_volumes([tmp_path / "series"]).entries[0]}
    write_structured_reports(made.scores, tmp_path / "sr", files)
    document = pydicom.dcmread(tmp_path / "sr" / f"{made.rows[SERIES]:04d}.dcm")
    taken = {keyword for keyword in keywords if document.get(keyword)}
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`([A-Z][A-Za-z]+)`", re.search(r"- `report --dicom-sr OUT --queries.*?\n- ", text, re.S)[0])
    )
    assert {"PatientID", "PatientName", "AccessionNumber"} <= taken
    assert taken | {"StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"} == listed
    elsewhere = {e.keyword for e in document.iterall() if "PLANTED" in str(e.value) and e.VR != "SQ"} - taken
    assert elsewhere == set()


INVALID = {
    "PatientSex": "UNKNOWN", "PatientBirthDate": "196x", "StudyDate": "yesterday", "StudyTime": "noon",
    "StudyID": "S" * 40, "AccessionNumber": "A" * 40, "PatientID": "P" * 80, "PatientName": "a=b=c=d",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length", "ignore:The number of PN")
@pytest.mark.parametrize("keyword", INVALID)
def test_what_dicom_does_not_allow_is_left_empty(made: SimpleNamespace, tmp_path: Path, keyword: str) -> None:
    """A PACS may refuse the report otherwise."""

    def plant(data: Dataset, _number: int) -> None:
        tag = tag_for_keyword(keyword)
        data[tag] = DataElement(tag, dictionary_VR(keyword), INVALID[keyword], validation_mode=pydicom.config.IGNORE)

    files = phantoms.write_dicom_where(tmp_path / "series", phantoms.anatomy(2)[3:9], plant)
    assert pydicom.dcmread(files[0]).get(keyword) == INVALID[keyword]
    entry = find_volumes([tmp_path / "series"]).entries[0]
    write_structured_reports(made.scores, tmp_path / "sr", {SERIES: entry})
    path = tmp_path / "sr" / f"{made.rows[SERIES]:04d}.dcm"
    document = pydicom.dcmread(path)
    assert not document.get(keyword)
    assert document.StudyInstanceUID == pydicom.dcmread(files[0]).StudyInstanceUID
    assert errors_of(path) == []


def test_report_on_another_file_says_that_its_study_is_made_up(made: SimpleNamespace, tmp_path: Path) -> None:
    document = made.documents[NEW]
    assert document.StudyDescription == "Made up: no DICOM study of the image was given"
    assert document.PatientID.startswith("QUERY-")
    assert not document.PatientName
    assert "CurrentRequestedProcedureEvidenceSequence" not in document
    # Without the images at hand nothing of a patient can be in it.
    assert main(["report", str(made.result), "--dicom-sr", str(tmp_path)]) == 0
    for path in tmp_path.iterdir():
        assert pydicom.dcmread(path).StudyDescription.startswith("Made up")


def test_uncalibrated_numbers_are_left_out(tiny, tmp_path: Path) -> None:
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path / "result")]) == 0
    assert main(["report", str(tmp_path / "result"), "--dicom-sr", str(tmp_path / "sr")]) == 0
    found = said(pydicom.dcmread(tmp_path / "sr" / "0000.dcm"))
    assert "Memorization index" not in found
    assert found["Largest correlation of fine detail with a match"] == pytest.approx(1, abs=1e-3)


def test_same_result_gives_the_same_bytes(made: SimpleNamespace, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for copy in ("one", "two"):
        arguments = ["--dicom-sr", tmp_path / copy, "--queries", made.folder / "queries"]
        assert main(["report", str(made.result), *map(str, arguments)]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        assert pydicom.dcmread(path).ContentDate == "20231114"


def test_reports_have_instances_of_their_own(made: SimpleNamespace) -> None:
    uids = [d[keyword].value for d in made.documents.values() for keyword in ("SOPInstanceUID", "SeriesInstanceUID")]
    assert len(set(uids)) == len(uids)


def program(name: str, package: str) -> str:
    """A validator: that of this environment, or another one."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None and package == "dicom3tools" and sys.platform == "linux" and platform.machine() == "x86_64":
        pytest.fail(f"{name} is missing; expected the package dicom3tools, which the extra 'test' installs")
    if found is None:
        pytest.skip(f"needs {name} of {package}")
    return found


def validated(path: Path) -> list[str]:
    """What dciodvfy says of a report."""
    command = [program("dciodvfy", "dicom3tools"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert "ComprehensiveSR" in lines
    return lines


def errors_of(path: Path) -> list[str]:
    return [line for line in validated(path) if line.startswith(("Error", "Abort"))]


def test_dciodvfy_finds_no_error(made: SimpleNamespace) -> None:
    for path in made.out.iterdir():
        lines = validated(path)
        assert errors_of(path) == []
        # What it warns of: our private scheme, and what DICOMDIR would need and the query lacks.
        known = ("Unrecognized defined term <99MEMIDX>", "needed to build DICOMDIR")
        assert [w for w in lines if w.startswith("Warning") and not any(k in w for k in known)] == []


@pytest.mark.parametrize(
    ("name", "package", "arguments"),
    [("dcsrdump", "dicom3tools", ()), ("dsrdump", "dcmtk (apt-get install dcmtk)", ("+Pc",))],
)
def test_other_programs_read_the_tree(made: SimpleNamespace, name: str, package: str, arguments: tuple) -> None:
    for volume, row in made.rows.items():
        command = [program(name, package), *arguments, str(made.out / f"{row:04d}.dcm")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        lines = (run.stdout + run.stderr).splitlines()
        assert any("Imaging Measurement Report" in line for line in lines)
        assert any("Verdict" in line and f'"{made.scores.volumes["verdict"][row]}"' in line for line in lines)
        assert any("Tracking Identifier" in line and volume in line for line in lines)
        assert not [line for line in lines if line.startswith(("E:", "F:", "Error", "Abort"))]
