"""A folder, DICOM or BIDS tree, table or list of files → the volumes of a cohort, with their subjects."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memorization_index.bundle import is_reference, is_result
from memorization_index.dicom import dicom_header, dicom_series, dicom_text
from memorization_index.errors import MemorizationIndexError
from memorization_index.tables import read_list, read_table, shown
from memorization_index.volumes import DICOM_SUFFIXES, IMAGE_SUFFIXES, VOLUME_SUFFIXES
from memorization_index.words import counted, shortened

if TYPE_CHECKING:
    from memorization_index.progress import Progress

#: Where the subject of a file that names none is taken from: it counts as a person.
ALONE = "one a file"
#: So many files that were given twice are named.
_NAMED = 5
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
    """The volumes found, what was skipped and why, files given twice, and tables in folders that were not used."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def tell(self, progress: Progress) -> None:
        """Tell what was skipped, and what was given twice."""
        for skipped in self.skipped:
            progress.skipped(skipped.path, skipped.reason)
        if self.repeated:
            progress.warning(
                f"Given more than once: {shortened(self.repeated, _NAMED)}; each file is used once, so list it once."
            )

    @property
    def subject_sources(self) -> dict[str, int]:
        """Where subjects were taken from, with the number of volumes."""
        return dict(Counter(entry.source for entry in self.entries))

    @property
    def subjects_note(self) -> str:
        """What to know where files count as people of their own; else nothing."""
        alone = self.subject_sources.get(ALONE, 0)
        if not alone:
            return ""
        hint = f" ({self.tables[0]} lies beside them: give it instead of its folder)" if self.tables else ""
        return (
            f"{counted(alone, 'volume')} {'names' if alone == 1 else 'name'} no subject (no table, BIDS name, DICOM "
            f"PatientID or --subjects){hint}; each file is taken as a subject of its own. Where several files show one "
            f"person, that person's own scans pass for strangers' in the calibration and copies are missed: name the "
            f"subjects with a table or --subjects."
        )


def listed_inputs(inputs: object) -> list[str | Path]:
    """One path or several as a list; raises :class:`MemorizationIndexError` for images in memory."""
    if isinstance(inputs, str | os.PathLike):
        return [Path(inputs)]
    if isinstance(inputs, Iterable) and not hasattr(inputs, "shape"):
        paths = list(inputs)
        if all(isinstance(path, str | os.PathLike) for path in paths):
            return paths
    raise MemorizationIndexError(
        f"Inputs of type {type(inputs).__name__} were given that are no paths; expected files, folders or tables. "
        f"Images in memory are scored with memorization_index.integrations.samples.SampleScorer."
    )


def find_volumes(inputs: Iterable[str | Path], subjects: str | Path | None = None) -> Cohort:
    """Find the volumes of a cohort.

    ``inputs`` are files, folders (searched recursively, also through links; hidden ones, references and results are
    passed over), CSV/TSV tables (``path`` or ``file``; optional ``subject`` or ``subject_id``; optional ``volume`` or
    ``scan_id``) or text files with one path a line. ``subjects`` is a table of the same form, or a regular expression
    whose group ``subject`` (or first group) is searched in each path.

    Raises :class:`MemorizationIndexError` where an input does not exist or nothing readable is found.
    """
    cohort = Cohort()
    rows: list[_Row] = []
    for given in inputs:
        path = Path(given)
        if _kind(path) is None:
            raise MemorizationIndexError(
                f"{path}: does not exist; expected a file, folder or table, so check the path."
            )
        before = len(cohort.skipped)
        found = list(_rows_of(path, cohort))
        if path.is_dir() and not found and len(cohort.skipped) == before:
            raise MemorizationIndexError(
                f"{path}: holds no image; expected {_FORMATS} files in it or below it, so check the folder."
            )
        rows += found
    cohort.tables = sorted({str(t) for given in inputs if (f := Path(given)).is_dir() for t in _tables_in(f)})
    rows = list(_without_repeats(_with_text_names(rows, cohort), cohort))
    rows = _with_subjects(rows, subjects)
    cohort.entries = _entries(rows)
    return cohort


# --------------------------------------------------------------------------------------------------------------------
# Finding


@dataclass(frozen=True)
class _Row:
    files: tuple[Path, ...]
    shown: str  # path relative to the folder that was given
    subject: str | None = None
    source: str = ""
    volume: str | None = None
    series: str | None = None  # of a DICOM file that was given by itself

    @property
    def place(self) -> Path:
        """Where what is shown lies, absolute."""
        return Path(os.path.abspath(self.files[0].parent / Path(self.shown).name))


def _kind(path: Path) -> str | None:
    """``file``, ``folder``, or None where there is neither (or the name is longer than the system allows)."""
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else None
    except OSError:
        return None


def _rows_of(path: Path, cohort: Cohort) -> Iterator[_Row]:
    suffix = path.suffix.lower()
    if path.is_dir():
        yield from _folder(path, cohort)
    elif suffix in _TABLES:
        yield from _shortened(list(_table(path, cohort)))
    elif suffix in _LISTS:
        lines = read_list(path)
        yield from _shortened([row for line in lines for row in _named(path, line, cohort)])
    else:
        yield from _listed(path, path.name, cohort)


def _files_below(folder: Path, cohort: Cohort) -> Iterator[Path]:
    """Files below a folder in the order of their names, each folder once; no hidden ones, references or results."""

    def unreadable(error: OSError) -> None:
        where = str(error.filename)
        cohort.skipped.append(Skipped(where, f"{where}: cannot be opened ({error.strerror}); check its permissions."))

    been: set[str] = set()
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        if is_reference(Path(parent)) or is_result(Path(parent)) or (real := os.path.realpath(parent)) in been:
            folders.clear()
            continue
        been.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    yield from sorted(found)


def _folder(folder: Path, cohort: Cohort) -> Iterator[_Row]:
    dicom_folders: dict[Path, list[Path]] = {}
    for path in _files_below(folder, cohort):
        if path.is_symlink() and not path.exists():
            cohort.skipped.append(Skipped(str(path), f"{path}: is a link to a file that is not there; fetch the file."))
        elif _is_image(path):
            yield _Row((path,), path.relative_to(folder).as_posix())
        elif _is_dicom(path):
            dicom_folders.setdefault(path.parent, []).append(path)
    for parent, present in dicom_folders.items():
        every_series = dicom_series(present)
        for files in every_series:
            subject = dicom_text(dicom_header(files[0]), "PatientID")
            shown = (parent.relative_to(folder) / min(files).name).as_posix()
            yield _Row(files, shown, subject, "DICOM PatientID" if subject else "")
        known = {path for files in every_series for path in files}
        for path in present:
            if path not in known:
                reason = (
                    f"{path}: is not an image of a DICOM series; expected a complete DICOM file, so export it again."
                )
                cohort.skipped.append(Skipped(str(path), reason))


def _tables_in(folder: Path) -> Iterator[Path]:
    """Tables in a folder that would name its volumes' subjects, were they given instead of the folder."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _TABLES and not path.name.startswith("."):
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                header = stream.readline(4096).lower()
            if "subject" in header and re.search(r"\b(path|file)\b", header):
                yield path


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith((*VOLUME_SUFFIXES, *IMAGE_SUFFIXES))


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    if path.name == "DICOMDIR" or (path.suffix and not path.suffix[1:].isdigit()):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(_DICOM_PREAMBLE + 4)[_DICOM_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def _listed(path: Path, shown: str, cohort: Cohort) -> Iterator[_Row]:
    """A file named by the user: skipped with a reason where it is missing or of no known format."""
    kind = _kind(path)
    if kind == "folder":
        rows = list(_folder(path, cohort))
        if not rows:
            reason = f"{path}: holds no image; expected {_FORMATS} files in it or below it, so check the folder."
            cohort.skipped.append(Skipped(str(path), reason))
        yield from (replace(row, shown=f"{shown}/{row.shown}") for row in rows)
    elif kind is None:
        reason = f"{path}: does not exist; expected an image, so check the path (relative ones begin at their table)."
        cohort.skipped.append(Skipped(str(path), reason))
    elif _is_image(path):
        yield _Row((path,), shown)
    elif _is_dicom(path):
        header = dicom_header(path)
        subject, series = dicom_text(header, "PatientID"), dicom_text(header, "SeriesInstanceUID")
        yield _Row((path,), shown, subject, "DICOM PatientID" if subject else "", series=series)
    else:
        reason = f"{path}: has no known format; expected {_FORMATS}, so convert it."
        cohort.skipped.append(Skipped(str(path), reason))


def _named(table: Path, name: str, cohort: Cohort) -> Iterator[_Row]:
    """What a table or list names; never a folder around itself, which could be the whole disk."""
    path = table.parent / name
    if _kind(path) == "folder" and table.resolve().is_relative_to(path.resolve()):
        reason = f"{path}: is a folder around the table {table.name} that names it; expected files or folders of scans."
        cohort.skipped.append(Skipped(str(path), reason))
        return
    yield from _listed(path, name, cohort)


def _table(path: Path, cohort: Cohort) -> Iterator[_Row]:
    rows, column = read_table(path)
    for row in rows:
        subject = row.get("subject") or row.get("subject_id") or None
        volume = row.get("volume") or row.get("scan_id") or None
        for found in _named(path, row[column], cohort):
            given = replace(found, subject=subject, source="table") if subject else found
            yield replace(given, volume=volume)


def _with_text_names(rows: Iterable[_Row], cohort: Cohort) -> Iterator[_Row]:
    """Leave out files whose names are not text: they could be written into no table."""
    for row in rows:
        try:
            str(row.files[0]).encode()
        except UnicodeEncodeError:
            path = os.fsencode(row.files[0]).decode("utf-8", "backslashreplace")
            cohort.skipped.append(Skipped(path, f"{path}: has a name that is not UTF-8 text; rename the file."))
        else:
            yield row


def _without_repeats(rows: Iterable[_Row], cohort: Cohort) -> Iterator[_Row]:
    seen: set[Path] = set()
    for row in rows:
        files = {f.resolve() for f in row.files}
        if files <= seen:
            cohort.repeated.append(str(row.files[0]))
        else:
            seen |= files
            yield row


# --------------------------------------------------------------------------------------------------------------------
# Subjects


def _with_subjects(rows: Sequence[_Row], subjects: str | Path | None) -> list[_Row]:
    if subjects is None:
        return [_with_subject(row, {}, None) for row in rows]
    if _kind(Path(subjects)) == "file":
        known, pattern = _known_subjects(Path(subjects)), None
        hits = sum(_known(row, known) is not None for row in rows)
    else:
        known, pattern = {}, _pattern(str(subjects))
        hits = sum(pattern.search(row.files[0].as_posix()) is not None for row in rows)
    if rows and not hits:
        raise MemorizationIndexError(
            f"--subjects {subjects}: names the subject of none of the {len(rows)} files (the first: "
            f"{rows[0].files[0]}); expected a table of these files or a pattern that is found in their paths."
        )
    return [_with_subject(row, known, pattern) for row in rows]


def _known_subjects(path: Path) -> dict[Path, str]:
    table, column = read_table(path)
    if not {"subject", "subject_id"} & set(table[0]):
        raise MemorizationIndexError(
            f"{path}: has columns {shown(table[0])}; expected a column 'subject' or 'subject_id', so add it."
        )
    return {
        (path.parent / line[column]).resolve(): line.get("subject") or line.get("subject_id") or "" for line in table
    }


def _known(row: _Row, known: dict[Path, str]) -> str | None:
    """The subject that a table gives for a file or for a folder around it."""
    path = row.files[0].resolve()
    return next((known[place] for place in (path, *path.parents) if place in known), None)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        pattern = None
        reason = f"it is neither a file nor a regular expression ({error})"
    else:
        is_file = text.lower().endswith((".csv", ".tsv"))
        reason = "there is no such file" if is_file else "the expression has no group"
    if pattern is None or pattern.groups == 0:
        raise MemorizationIndexError(
            f"--subjects {text}: {reason}; expected a table, or an expression such as '(?P<subject>patient\\d+)'."
        )
    return pattern


def _with_subject(row: _Row, known: dict[Path, str], pattern: re.Pattern[str] | None) -> _Row:
    if subject := _known(row, known):
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
    return row


# --------------------------------------------------------------------------------------------------------------------
# Names


def _shortened(rows: list[_Row]) -> list[_Row]:
    """Rows shown by an absolute path, or one that climbs (``..``), lose the folder that all of them lie in."""
    far = [row for row in rows if Path(row.shown).is_absolute() or ".." in Path(row.shown).parts]
    names = dict(zip(map(id, far), _relative_names(far), strict=True))
    return [replace(row, shown=names.get(id(row), row.shown)) for row in rows]


def _relative_names(rows: Sequence[_Row]) -> list[str]:
    """The rows' places relative to the innermost folder that holds them all."""
    if not rows:
        return []
    try:
        common = os.path.commonpath([row.place.parent for row in rows])
    except ValueError:  # on different drives
        return [row.place.as_posix() for row in rows]
    return [row.place.relative_to(common).as_posix() for row in rows]


def _entries(rows: Sequence[_Row]) -> list[Entry]:
    """Give every volume a unique name; without a subject it is one by itself."""
    merged = _merged(rows)
    entries = []
    taken: set[str] = set()
    for row, name in zip(merged, _names(merged), strict=True):
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        entries.append(Entry(unique, row.files, row.subject or unique, row.source if row.subject else ALONE))
    return entries


def _merged(rows: Sequence[_Row]) -> list[_Row]:
    """2-D images that a table assigns to one volume become its slices, DICOM files of one series a volume."""
    groups: dict[tuple[str, ...], list[_Row]] = {}
    for row in rows:
        path = row.files[0]
        if row.volume and path.name.lower().endswith(IMAGE_SUFFIXES):
            key: tuple[str, ...] = ("pictures", row.subject or "", row.volume)
        elif row.series:
            key = ("series", row.subject or "", row.volume or "", row.series, str(path.parent))
        else:
            key = ("file", str(path))
        groups.setdefault(key, []).append(row)
    return [_one_volume(key[0], group) for key, group in groups.items()]


def _one_volume(kind: str, group: Sequence[_Row]) -> _Row:
    files = [f for row in group for f in row.files]
    if kind == "series" and len(files) > 1:
        ordered = {path: place for place, path in enumerate(p for series in dicom_series(files) for p in series)}
        files = sorted(files, key=lambda path: ordered.get(path, -1))
        return replace(min(group, key=lambda row: row.shown), files=tuple(files))
    return replace(group[0], files=tuple(files))


def _names(rows: Sequence[_Row]) -> list[str]:
    """The name that a table gives, else the path shown; where those agree, with what tells them apart."""
    names = [row.volume or row.shown for row in rows]
    for name, count in Counter(names).items():
        if count > 1:
            same = [i for i, other in enumerate(names) if other == name]
            longer = _relative_names([rows[i] for i in same])
            for i, path in zip(same, longer, strict=True):
                subject = rows[i].subject
                names[i] = (f"{subject}/{name}" if subject else name) if rows[i].volume else path
    return names
