"""A folder, DICOM or BIDS tree, table or list of files → the volumes of a cohort, with their subjects."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from memorization_index.errors import MemorizationIndexError
from memorization_index.volumes import DICOM_SUFFIXES, IMAGE_SUFFIXES, VOLUME_SUFFIXES

_TABLES = (".csv", ".tsv")
_LISTS = (".txt", ".lst")
_BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)")
_DICOM_PREAMBLE = 128
_FORMATS = "NIfTI, NRRD, MHA, DICOM, PNG, JPEG, TIFF or NPY"


@dataclass(frozen=True)
class Entry:
    """One volume of a cohort: its unique name, the files that hold it, its subject and where that was taken from."""

    name: str
    files: tuple[Path, ...]
    subject: str
    source: str

    @property
    def path(self) -> Path:
        """The file (of a series: the first file)."""
        return self.files[0]


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, with the reason in one sentence."""

    path: str
    reason: str


@dataclass
class Cohort:
    """The volumes found, what was skipped and why, and where subjects came from (``{source: number of volumes}``)."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def subject_sources(self) -> dict[str, int]:
        """Where subjects were taken from, with the number of volumes."""
        return dict(Counter(entry.source for entry in self.entries))


def find_volumes(inputs: Iterable[str | Path], subjects: str | Path | None = None) -> Cohort:
    """Find the volumes of a cohort.

    ``inputs`` are files, folders (searched recursively), CSV/TSV tables (``path`` or ``file``; optional ``subject`` or
    ``subject_id``; optional ``volume`` or ``scan_id``) or text files with one path a line. ``subjects`` is a table of
    the same form, or a regular expression whose group ``subject`` (or first group) is searched in each path.

    Raises :class:`MemorizationIndexError` where an input does not exist or nothing readable is found.
    """
    cohort = Cohort()
    rows: list[_Row] = []
    for given in inputs:
        path = Path(given)
        if not path.exists():
            raise MemorizationIndexError(
                f"{path}: does not exist; expected a file, folder or table, so check the path."
            )
        found = list(_rows_of(path, cohort))
        if path.is_dir() and not found:
            raise MemorizationIndexError(
                f"{path}: holds no image; expected {_FORMATS} files in it or below it, so check the folder."
            )
        rows += found
    rows = list(_without_repeats(rows, cohort))
    rows = _with_subjects(rows, subjects)
    cohort.entries = _entries(rows)
    return cohort


@dataclass(frozen=True)
class _Row:
    files: tuple[Path, ...]
    shown: str  # path relative to the folder that was given
    subject: str | None = None
    source: str = ""
    volume: str | None = None


def _rows_of(path: Path, cohort: Cohort) -> Iterator[_Row]:
    suffix = path.suffix.lower()
    if path.is_dir():
        yield from _folder(path)
    elif suffix in _TABLES:
        yield from _table(path, cohort)
    elif suffix in _LISTS:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        for line in filter(None, lines):
            yield from _listed(path.parent / line, line, cohort)
    else:
        yield from _listed(path, path.name, cohort)


def _folder(folder: Path) -> Iterator[_Row]:
    dicom_folders: dict[Path, list[Path]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if _is_image(path):
            yield _Row((path,), relative.as_posix())
        elif _is_dicom(path):
            dicom_folders.setdefault(path.parent, []).append(path)
    for parent in dicom_folders:
        for name, files in _dicom_series(parent):
            subject = _patient(files[0])
            shown = (parent.relative_to(folder) / name).as_posix()
            yield _Row(tuple(files), shown, subject, "DICOM PatientID" if subject else "")


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES))


def _is_dicom(path: Path) -> bool:
    if path.suffix and not path.name.lower().endswith(DICOM_SUFFIXES) and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(_DICOM_PREAMBLE + 4)[_DICOM_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def _dicom_series(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """The series of one folder as GDCM groups and orders them; each is named after its first file."""
    import SimpleITK as sitk

    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        files = [Path(f) for f in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)]
        yield min(files).name, files


def _patient(path: Path) -> str | None:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except (InvalidDicomError, OSError, ValueError):
        return None
    return str(header.get("PatientID", "")).strip() or None


def _listed(path: Path, shown: str, cohort: Cohort) -> Iterator[_Row]:
    """A file named by the user: skipped with a reason where it is missing or of no known format."""
    if path.is_dir():
        yield from (replace(row, shown=f"{shown}/{row.shown}") for row in _folder(path))
    elif not path.is_file():
        cohort.skipped.append(Skipped(str(path), f"{path}: does not exist; expected an image, so check the path."))
    elif _is_image(path):
        yield _Row((path,), shown)
    elif _is_dicom(path):
        subject = _patient(path)
        yield _Row((path,), shown, subject, "DICOM PatientID" if subject else "")
    else:
        reason = f"{path}: has no known format; expected {_FORMATS}, so convert it."
        cohort.skipped.append(Skipped(str(path), reason))


def _read_table(path: Path) -> tuple[list[dict[str, str]], str]:
    """Rows of a table with lower-case column names, and the name of its path column."""
    text = path.read_text(encoding="utf-8-sig")
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    column = next((c for c in ("path", "file") if c in reader.fieldnames), None)
    if column is None:
        raise MemorizationIndexError(
            f"{path}: has columns {', '.join(reader.fieldnames) or 'none'}; expected a column 'path' or 'file' "
            f"(optional 'subject' or 'subject_id', 'volume' or 'scan_id'), so rename the one that holds the files."
        )
    rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader]
    return [row for row in rows if row[column]], column


def _table(path: Path, cohort: Cohort) -> Iterator[_Row]:
    rows, column = _read_table(path)
    for row in rows:
        subject = row.get("subject") or row.get("subject_id") or None
        volume = row.get("volume") or row.get("scan_id") or None
        for found in _listed(path.parent / row[column], row[column], cohort):
            given = replace(found, subject=subject, source="table") if subject else found
            yield replace(given, volume=volume)


def _without_repeats(rows: Sequence[_Row], cohort: Cohort) -> Iterator[_Row]:
    seen: set[tuple[Path, ...]] = set()
    for row in rows:
        key = tuple(f.resolve() for f in row.files)
        if key in seen:
            path = str(row.files[0])
            cohort.skipped.append(Skipped(path, f"{path}: was given twice; it is used once, so list it only once."))
        else:
            seen.add(key)
            yield row


def _with_subjects(rows: Sequence[_Row], subjects: str | Path | None) -> list[_Row]:
    known: dict[Path, str] = {}
    pattern = None
    if subjects is not None and Path(subjects).is_file():
        table, column = _read_table(Path(subjects))
        base = Path(subjects).parent
        for line in table:
            known[(base / line[column]).resolve()] = line.get("subject") or line.get("subject_id") or ""
    elif subjects is not None:
        pattern = _pattern(str(subjects))
    return [_with_subject(row, known, pattern) for row in rows]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        pattern = None
        reason = f"it is neither a file nor a regular expression ({error})"
    else:
        reason = "the expression has no group"
    if pattern is None or pattern.groups == 0:
        raise MemorizationIndexError(
            f"--subjects {text}: {reason}; expected a table, or an expression such as '(?P<subject>patient\\d+)'."
        )
    return pattern


def _with_subject(row: _Row, known: dict[Path, str], pattern: re.Pattern[str] | None) -> _Row:
    if subject := known.get(row.files[0].resolve()):
        return replace(row, subject=subject, source="table")
    if row.source == "table":
        return row
    if pattern is not None and (hit := pattern.search(row.files[0].as_posix())):
        subject = hit["subject"] if "subject" in pattern.groupindex else hit[1]
        if subject:
            return replace(row, subject=subject, source="pattern")
    # Below the given folder, then around the file: a folder far above may be called sub-… for other reasons.
    if hit := _BIDS_SUBJECT.search(row.shown) or _BIDS_SUBJECT.search("/".join(row.files[0].parts[-4:])):
        return replace(row, subject=hit[1], source="BIDS")
    if row.subject:
        return row
    return replace(row, subject=row.shown, source="one a file")


def _entries(rows: Sequence[_Row]) -> list[Entry]:
    """Give every volume a unique name; 2-D images that a table assigns to one volume become its slices."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        is_picture = row.files[0].name.lower().endswith(IMAGE_SUFFIXES)
        key = (row.subject or "", row.volume or "") if row.volume and is_picture else ("", str(row.files[0]))
        groups.setdefault(key, []).append(row)
    merged = [replace(g[0], files=tuple(f for row in g for f in row.files)) for g in groups.values()]
    wanted = [row.volume or row.shown for row in merged]
    counts = Counter(wanted)
    taken: Counter[str] = Counter()
    entries = []
    for row, name in zip(merged, wanted, strict=True):
        subject = row.subject or row.shown
        unique = f"{subject}/{name}" if counts[name] > 1 and row.volume else name
        taken[unique] += 1
        if taken[unique] > 1:
            unique = f"{unique} ({taken[unique]})"
        entries.append(Entry(unique, row.files, subject, row.source))
    return entries
