"""Verdicts as DICOM Structured Reports (TID 1500), so that they can live in a PACS. Needs the extra ``dicom``.

A volume whose DICOM files are given gets its report in its own study. Another one gets a made-up study, which says so.
Training subjects are not named: who keeps the reference can look them up in the result.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index._version import __version__
from memorization_index.errors import MemorizationIndexError, install
from memorization_index.pictures import worst_first
from memorization_index.provenance import now

if TYPE_CHECKING:
    from memorization_index.cohort import Entry
    from memorization_index.scores import Columns, Scores

#: The coding scheme of what DICOM has no codes for.
SCHEME, SCHEME_NAME = "99MEMIDX", "memorization-index"
MADE_UP = "Made up: no DICOM study of the image was given"
#: Code → meaning of the verdicts and of the limit that goes with each.
_VERDICTS = {"copy": "COPY", "suspicious": "SUSPICIOUS", "no evidence": "NOEVIDENCE", "uncalibrated": "UNCALIBRATED"}
#: Without these a file belongs to no study.
_IDENTIFYING = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
#: What a report takes over besides, empty where a file lacks it or has what DICOM does not allow; docs/security.md
#: lists all of both.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber",
)  # fmt: skip
#: Column of the volume table → code, meaning, UCUM unit and its meaning.
_MEASURED = {
    "mi": ("MI", "Memorization index", "1", "no units"),
    "oni": ("ONI", "Overfit-novelty index", "1", "no units"),
    "p_value": ("P", "p of the image against new people's scans", "1", "no units"),
    "q_value": ("Q", "q of the image (Benjamini-Hochberg)", "1", "no units"),
    "n_slices": ("EXAMINED", "Slices examined", "{slices}", "slices"),
    "n_flagged": ("FLAGGED", "Slices flagged", "{slices}", "slices"),
}
_OF_THE_REFERENCE = {"smallest_volume_p": ("SMALLESTP", "Smallest p of an image that is possible", "1", "no units")}
_SLICE_MEASURED = {
    "similarity": ("SIMILARITY", "Largest similarity to a training slice", "1", "no units"),
    "ncc": ("NCC", "Largest correlation of fine detail with a match", "1", "no units"),
}


def require_highdicom() -> None:
    """Raise :class:`MemorizationIndexError` where highdicom, which writes the reports, is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MemorizationIndexError(
            f"--dicom-sr: needs highdicom; expected it installed, {install('dicom')}."
        ) from error


def write_structured_reports(scores: Scores, folder: Path, files: Mapping[str, Entry]) -> tuple[int, int]:
    """Write one report for each volume; returns how many lie in the study of their image, and in a made-up one.

    ``files``: the files of the volumes, as far as they are at hand. Raises :class:`MemorizationIndexError` where
    highdicom is not installed.
    """
    require_highdicom()
    folder.mkdir(parents=True, exist_ok=True)
    made_up = 0
    for rank, row in enumerate(worst_first(scores.volumes), 1):
        entry = files.get(str(scores.volumes["volume"][row]))
        evidence = _headers(entry.files) if entry is not None else []
        made_up += not evidence
        document = structured_report(scores, row, evidence)
        document.SeriesNumber = 9000 + min(rank, 999)
        path = folder / f"{row:04d}.dcm"
        beside = folder / f".{path.name}.{os.getpid()}"
        document.save_as(beside, enforce_file_format=True)
        os.replace(beside, path)
    return len(scores.volumes["volume"]) - made_up, made_up


def structured_report(scores: Scores, row: int, evidence: Sequence[Any] = ()) -> Any:
    """The report on the volume in a row of the volume table, as a ``highdicom.sr.ComprehensiveSR``.

    ``evidence``: the DICOM headers of the volume's files (pydicom datasets), from which patient and study are taken.
    UIDs follow from what is reported: the same result gives the same report.
    """
    from highdicom.sr import ComprehensiveSR
    from pydicom.uid import generate_uid

    seeds = [str(scores.run["reference"]["fingerprint"]), str(scores.run["inputs"]["sha256"]), str(row)]
    root = [part for name in ("volume", "verdict") for part in (name, str(scores.volumes[name][row]))] + seeds

    def uid(role: str) -> str:
        # UUID-derived UIDs (2.25) would need a random UUID; pydicom's root takes a hash of what is given.
        return str(generate_uid(entropy_srcs=[role, *root]))

    time = now()
    document = ComprehensiveSR(
        evidence=list(evidence) or [_made_up_study(row, uid)],
        content=_content(scores, row, uid),
        series_instance_uid=uid("series"),
        series_number=9001,
        sop_instance_uid=uid("instance"),
        instance_number=1,
        manufacturer="memorization-index",
        is_complete=True,
        record_evidence=bool(evidence),
        specific_character_set="ISO_IR 192",
    )
    document.SeriesDescription = "Comparison with the training set"
    for name in ("ContentDate", "InstanceCreationDate"):
        setattr(document, name, time.strftime("%Y%m%d"))
    for name in ("ContentTime", "InstanceCreationTime"):
        setattr(document, name, time.strftime("%H%M%S"))
    for equipment in document.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = time.strftime("%Y%m%d%H%M%S")
    document.TimezoneOffsetFromUTC = "+0000"
    document.SoftwareVersions = __version__
    document.ManufacturerModelName, document.DeviceSerialNumber = "memorization-index", "none"
    document.CodingSchemeIdentificationSequence = [_scheme()]
    if not evidence:
        document.StudyDescription = MADE_UP
        del document.CurrentRequestedProcedureEvidenceSequence  # the stand-in
    return document


def _headers(files: Sequence[Path]) -> list[Any]:
    """The headers of the files of one DICOM series; empty where they are not DICOM, or name no study."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    except (InvalidDicomError, OSError, ValueError):
        return []
    if not all(header.get(keyword) for header in headers for keyword in _IDENTIFYING):
        return []
    return [_filing(header) for header in headers]


def _filing(header: Any) -> Any:
    """Of a header what files the report where its image is, and nothing else; the physician's name stays empty."""
    from pydicom.dataset import Dataset

    kept = Dataset()
    for keyword in _IDENTIFYING:
        setattr(kept, keyword, header.get(keyword))
    for keyword in _MAY_BE_EMPTY:
        setattr(kept, keyword, header.get(keyword) if _is_valid(keyword, header.get(keyword)) else None)
    return kept


def _is_valid(keyword: str, value: Any) -> bool:
    """Whether DICOM allows a value: a report with one that it does not allow would be refused by a PACS."""
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import validate_value

    if keyword == "PatientSex":
        return value in ("M", "F", "O")
    try:
        validate_value(dictionary_VR(keyword), str(value or ""), RAISE)
    except ValueError:
        return False
    return True


def _made_up_study(row: int, uid: Any) -> Any:
    """What stands in for the header of an image without a DICOM study: one of its own, without a patient's name."""
    from pydicom.dataset import Dataset
    from pydicom.uid import SecondaryCaptureImageStorage

    study = Dataset()
    study.SOPClassUID, study.SOPInstanceUID = SecondaryCaptureImageStorage, uid("stand-in")
    study.StudyInstanceUID, study.SeriesInstanceUID = uid("study"), uid("stand-in series")
    study.PatientID, study.PatientName, study.PatientBirthDate, study.PatientSex = f"QUERY-{row:04d}", "", "", "O"
    study.StudyID, study.AccessionNumber, study.ReferringPhysicianName = "", "", ""
    time = now()
    study.StudyDate, study.StudyTime = time.strftime("%Y%m%d"), time.strftime("%H%M%S")
    study.StudyDescription = MADE_UP
    return study


def _content(scores: Scores, row: int, uid: Any) -> Any:
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        QualitativeEvaluation,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=uid("device"), name="memorization-index", manufacturer_name="memorization-index", model_name=__version__
    )
    verdict = str(scores.volumes["verdict"][row])
    limit = _code("NOTPROVEN", "Not flagged is not proven novel")
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid("tracking"), identifier=str(scores.volumes["volume"][row])),
        finding_type=_code("COMPARISON", "Comparison with the training set"),
        algorithm_id=_algorithm(scores.run),
        measurements=_measurements(scores, row),
        qualitative_evaluations=[
            QualitativeEvaluation(_code("VERDICT", "Verdict"), _code(_VERDICTS[verdict], verdict)),
            QualitativeEvaluation(_code("LIMIT", "Limit of the method"), limit),
        ],
    )
    observer = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=codes.cid100.MRIUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )


def _algorithm(run: Mapping[str, Any]) -> Any:
    from highdicom.sr import AlgorithmIdentification

    reference = run["reference"]["fingerprint"] or "in memory"
    parameters = [f"protocol {run['protocol']}", f"reference SHA-256 {reference}", f"seed {run['seed']}"]
    return AlgorithmIdentification("memorization-index", __version__, parameters)


def _measurements(scores: Scores, row: int) -> list[Any]:
    """The numbers that are given; what is not calibrated has none."""
    from highdicom.sr import Measurement

    own: Columns = scores.slices
    slices = own["volume"] == scores.volumes["volume"][row]
    values = {column: float(scores.volumes[column][row]) for column in _MEASURED}
    values |= {name: scores.run["calibration"].get(name, np.nan) for name in _OF_THE_REFERENCE}
    for column in _SLICE_MEASURED:
        known = own[column][slices].astype(float)
        values[column] = float(np.nanmax(known)) if np.isfinite(known).any() else np.nan
    result = []
    for column, (code, meaning, unit, unit_meaning) in (_MEASURED | _OF_THE_REFERENCE | _SLICE_MEASURED).items():
        if np.isfinite(values[column]):
            # A decimal string has at most 16 characters.
            value = float(f"{values[column]:.6g}")
            result.append(Measurement(_code(code, meaning), value, _code(unit, unit_meaning, "UCUM")))
    return result


def _code(value: str, meaning: str, scheme: str = SCHEME) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)


def _scheme() -> Any:
    """Says who defines the private codes."""
    from pydicom.dataset import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = "MemorizationIndex developers"
    return scheme
