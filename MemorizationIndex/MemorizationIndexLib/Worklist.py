"""The scored volumes, worst first."""

import math
import os

import qt
from slicer.i18n import tr as _

from .Review import DECISIONS

_VERDICTS = ("copy", "suspicious", "uncalibrated", "no evidence", "skipped")
#: Worst first; a class that is not listed comes after these.
CLASSES = ("exact", "copy", "altered copy", "partial copy", "same anatomy", "novel", "")
_COLORS = {"copy": "#D55E00", "suspicious": "#E69F00"}
_NARROWEST = 36  # pixels, of a column
_NAME = 110  # pixels, of the first column at least
_MARGIN = 12  # pixels, beside a text
_SWATCH = 10  # pixels, the square in a verdict's color
# Key of a row, whether it holds numbers, how they are shown.
_COLUMNS = (
    ("volume", None), ("verdict", None), ("match_class", None), ("p_value", "{:.3g}"), ("mi", "{:.1f}"),
    ("match_subject", None), ("n_flagged", "{:.0f}"), ("decision", None),
)  # fmt: skip


class Worklist:
    """A table of volumes that is sorted by a click on a header and filtered by text and kind.

    ``onChosen(name)`` when a row is chosen: by the user, or in place of one that the filter hides; None where it hides
    all. Rows are dictionaries: those of the volume table with
    ``match_class`` (the worst of its slices), ``decision`` and ``decided_slices`` (how many) added.
    """

    def __init__(self, table, filterEdit, filterSelector, onChosen):
        self._table, self._edit, self._selector, self._onChosen = table, filterEdit, filterSelector, onChosen
        self._rows, self._shown, self._sort = [], [], None
        self._chosen, self._filling = None, False
        titles = (_("Volume"), _("Verdict"), _("Class"), _("p"), _("MI / ONI"), _("Match"), _("Flagged"))
        table.setColumnCount(len(_COLUMNS))
        table.setHorizontalHeaderLabels([*titles, _("Decision")])
        table.setTextElideMode(qt.Qt.ElideMiddle)
        table.setIconSize(qt.QSize(_SWATCH, _SWATCH))
        for column, text in enumerate(_explanations()):
            table.horizontalHeaderItem(column).setToolTip(text)
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionsClickable(True)
        header.setHighlightSections(False)
        header.setStretchLastSection(True)
        # Where a narrow panel shows them too: the decision beside the name; after the verdict match, flagged slices.
        for place in (1, 3, 3):
            header.moveSection(len(_COLUMNS) - 1, place)
        header.setMinimumSectionSize(_NARROWEST)
        header.connect("sectionClicked(int)", self._onHeader)
        self._kinds = {
            _("All volumes"): lambda row: True,
            _("Copies and suspicious"): lambda row: row["verdict"] in ("copy", "suspicious"),
            _("Not decided yet"): lambda row: not row["decision"] and row["verdict"] != "skipped",
            _("Skipped"): lambda row: row["verdict"] == "skipped",
        }
        for text in self._kinds:
            filterSelector.addItem(text)
        filterEdit.connect("textChanged(QString)", self._onFilter)
        filterSelector.connect("currentIndexChanged(int)", self._onFilter)
        table.connect("itemSelectionChanged()", self._onSelection)

    @property
    def chosen(self):
        """The name of the chosen volume, or None."""
        return self._chosen

    def show(self, rows):
        """Show these volumes; the chosen one stays chosen where it is still there."""
        self._rows = sorted(rows, key=worst)
        if self._chosen not in {row["volume"] for row in rows}:
            self._chosen = None
        self._fill()
        self._fit()
        if self._chosen is not None:
            self._chooseShown()

    def begin(self):
        """Choose none, and sort worst first."""
        self._chosen, self._sort = None, None
        self._table.horizontalHeader().setSortIndicatorShown(False)
        self._fill()

    @property
    def isFiltered(self):
        """Whether there are volumes that are not shown."""
        return len(self._shown) < len(self._rows)

    def names(self):
        """The names of the volumes that are shown, from top to bottom."""
        return [row["volume"] for row in self._shown]

    def choose(self, name):
        """Choose a volume that is shown, as a click does."""
        self._table.selectRow(self.names().index(name))

    def move(self, step):
        """Choose the next (1) or previous (-1) volume."""
        names = self.names()
        if names:
            at = names.index(self._chosen) + step if self._chosen in names else 0
            self.choose(names[min(max(at, 0), len(names) - 1)])

    # --- Filling -----------------------------------------------------------------------------------------------------

    def _fill(self):
        rows = [row for row in self._rows if self._matches(row)]
        if self._sort is not None:
            column, descending = self._sort
            rows = ordered(rows, _COLUMNS[column][0], descending)
        self._shown = rows
        blocked = self._table.blockSignals(True)
        self._table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(_cells(row)):
                self._item(number, column).setText(text)
            color = _COLORS.get(row["verdict"])
            verdict = self._item(number, 1)
            verdict.setForeground(qt.QBrush(qt.QColor(color)) if color else qt.QBrush(self._table.palette.text()))
            verdict.setIcon(_swatch(color) if color else qt.QIcon())
            self._item(number, 0).setToolTip("\n".join(filter(None, [row["volume"], row.get("reason")])))
        self._table.blockSignals(blocked)
        self._mark()

    def _fit(self):
        """Make columns as wide as what they show; the name gets what is left, the decision has room for any."""
        table, last = self._table, len(_COLUMNS) - 1
        table.resizeColumnsToContents()
        room = max(table.fontMetrics().horizontalAdvance(text) for text in DECISIONS) + _MARGIN
        table.setColumnWidth(last, max(table.columnWidth(last), room))
        others = sum(table.columnWidth(column) for column in range(1, last + 1))
        table.setColumnWidth(0, max(_NAME, table.viewport().width - others))

    def _item(self, row, column):
        """The item of a cell. (The table owns its items; PythonQt needs them held as well.)"""
        item = self._table.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            self._table.setItem(row, column, item)
        return item

    def _matches(self, row):
        kind = list(self._kinds.values())[max(self._selector.currentIndex, 0)]
        text = self._edit.text.lower()
        return kind(row) and (not text or any(text in cell.lower() for cell in _cells(row)))

    # --- What the user does ------------------------------------------------------------------------------------------

    def _onHeader(self, column):
        descending = self._sort == (column, False)
        self._sort = (column, descending)
        header = self._table.horizontalHeader()
        header.setSortIndicatorShown(True)
        header.setSortIndicator(column, qt.Qt.DescendingOrder if descending else qt.Qt.AscendingOrder)
        self._fill()
        self._fit()

    def _onFilter(self, _value):
        self._fill()
        self._chooseShown()

    def _chooseShown(self):
        """Choose another volume where the chosen one is not shown: the first that was scored, else the first, or none.

        What is decided is decided on a volume that the list shows.
        """
        names = self.names()
        if self._chosen not in names:
            scored = [row["volume"] for row in self._shown if row["verdict"] != "skipped"]
            self._take(next(iter(scored + names), None))

    def _take(self, name):
        if name == self._chosen:
            return
        self._chosen = name
        self._mark()
        self._onChosen(name)

    def _mark(self):
        """Mark the row of the chosen volume."""
        self._filling, names = True, self.names()
        if self._chosen in names:
            self._table.selectRow(names.index(self._chosen))
        else:
            self._table.clearSelection()
        self._filling = False

    def _onSelection(self):
        row = self._table.currentRow()
        if self._filling or not self._table.selectedItems() or not 0 <= row < len(self._shown):
            return
        self._take(self._shown[row]["volume"])


def _swatch(color):
    """A square in a verdict's color. A selected row's text has the selection's color, and Qt would tint the icon."""
    pixmap = qt.QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(qt.QColor(color))
    icon = qt.QIcon(pixmap)
    icon.addPixmap(pixmap, qt.QIcon.Selected)
    return icon


def _explanations():
    """What the columns mean, in a sentence each."""
    return (
        _("The volume, or its file."),
        _(
            "copy: a training scan was copied; suspicious: p at most .05, or slices that come close to one;"
            " no evidence: neither, which does not prove that it is new; uncalibrated: no match was verified and p says"
            " nothing here; skipped: it was not scored."
        ),
        _(
            "The strongest of its slices, laid onto what they match: exact (the same pixels), copy, altered copy,"
            " same anatomy (as a new scan of the same person), novel; empty where nothing was compared."
        ),
        _("How often a new person's real scan is at least this similar to the training set; not how likely it is new."),
        _(
            "MI: similarity in standard deviations above that of other people; ONI: the same from -1 (memorized)"
            " through 0 (typical) to +1 (novel)."
        ),
        _("The training subject that the volume matches."),
        _(
            "How many slices are flagged, of those that were scored: by their class (exact, copy, altered copy), or at"
            " p at most .01, as one of a hundred novel ones is by chance. With few subjects no p is that small."
        ),
        _("What the reader decided on the volume, and on how many of its slices."),
    )


def summary(rows):
    """How many volumes have which verdict, in a line; empty where there are none."""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in _VERDICTS}
    scored, left = len(rows) - counts["skipped"], counts["skipped"]
    found = _("{copies} of {count} is a copy") if counts["copy"] == 1 else _("{copies} of {count} are copies")
    text = found.format(copies=counts["copy"], count=scored)
    text += _(", {suspicious} suspicious").format(suspicious=counts["suspicious"])
    if counts["uncalibrated"]:
        text += _(", {count} uncalibrated").format(count=counts["uncalibrated"])
    if left:
        text += _(", {count} skipped").format(count=left)
    return text if rows else ""


def worst(row):
    """A key that sorts the worst volume first."""
    verdict = _VERDICTS.index(row["verdict"]) if row["verdict"] in _VERDICTS else len(_VERDICTS)
    return (verdict, _last(row["p_value"]), -_number(row["mi"]), row["volume"])


def ordered(rows, column, descending):
    """Rows by a column; numbers that were not given come last either way."""
    missing = [row for row in rows if _isMissing(row[column])]
    given = [row for row in rows if not _isMissing(row[column])]
    return sorted(given, key=lambda row: _key(row, column), reverse=descending) + missing


def _key(row, column):
    if column == "verdict":
        return _VERDICTS.index(row[column]) if row[column] in _VERDICTS else len(_VERDICTS)
    if column == "match_class":
        return CLASSES.index(row[column]) if row[column] in CLASSES else len(CLASSES)
    return row[column].lower() if isinstance(row[column], str) else row[column]


def _isMissing(value):
    return value == "" if isinstance(value, str) else math.isnan(value)


def _last(value):
    return math.inf if math.isnan(value) else value


def _number(value):
    return -math.inf if math.isnan(value) else value


def shownName(name, isScored):
    """A volume's name without the folders of a file that was skipped, which has no other name than its path."""
    return name if isScored or not os.path.isabs(name) else os.path.basename(name)


def _cells(row):
    """What the columns show."""
    texts = []
    for name, form in _COLUMNS:
        value = shownName(row[name], row["verdict"] != "skipped") if name == "volume" else row[name]
        texts.append(value if form is None else "" if math.isnan(value) else form.format(value))
    if texts[4]:
        texts[4] += f" / {row['oni']:+.2f}"
    if texts[6]:
        texts[6] = _("{flagged:.0f} of {count:.0f}").format(flagged=row["n_flagged"], count=row["n_slices"])
    if row["decided_slices"]:
        count = row["decided_slices"]
        slices = _("1 slice") if count == 1 else _("{count} slices").format(count=count)
        texts[7] = ", ".join(filter(None, [texts[7], slices]))
    return texts
