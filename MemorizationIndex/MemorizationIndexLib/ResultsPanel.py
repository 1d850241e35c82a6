"""The section where results are read: worklist, plot, decisions, export."""

import collections
import math

import slicer
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .AnnotationText import transformText
from .Navigator import Navigator
from .ReviewPanel import ReviewPanel
from .ScorePlot import ScorePlot
from .VolumeLoader import VolumeLoader
from .Worklist import CLASSES, Worklist, shownName, summary


class ResultsPanel:
    """Choosing a row shows the volume, its worst slice, its plot and the decisions on it.

    ``onShown(volumeNode, slice row)`` when another volume or slice is looked at; both are None where there is none.
    """

    def __init__(self, ui, logic, run, onShown):
        self.ui, self.logic, self.run, self.parameter = ui, logic, run, None
        self._onShown, self._state = onShown, None
        self.worklist = Worklist(ui.worklistTable, ui.filterEdit, ui.filterSelector, self._onChosen)
        self.plot = ScorePlot(self.jump)
        ui.plotWidget.layout().addWidget(self.plot)
        self.review = ReviewPanel(ui, logic.review, self._onDecided)
        self._navigator, self._loader = Navigator(self._onMoved), VolumeLoader(self._load, self._onLoaded)
        self._name, self._rows, self._row, self._node = None, [], None, None
        ui.exportButton.connect("clicked()", self.onExport)

    def update(self):
        """Show the results that the scene holds now."""
        parameter = self.parameter
        tables = (parameter.volumeTable, parameter.sliceTable, parameter.decisionTable)
        state = [(table.GetID(), table.GetMTime(), table.GetTable().GetMTime()) if table else None for table in tables]
        if state != self._state:
            self._state = state
            rows = self._worklistRows()
            self.worklist.show(rows)
            self.ui.summaryLabel.text = summary(rows)
            if self.worklist.chosen != self._name:
                self._leave()
        self.review.update()
        self.ui.exportButton.enabled = parameter.volumeTable is not None and not self.logic.busy

    def detach(self):
        """Let go of the scene."""
        self.parameter, self._state = None, None
        self.run.moveOn()
        self.worklist.show([])
        self.ui.summaryLabel.clear()
        self._leave()

    def renew(self):
        """Show a result that has just come, with its worst volume."""
        self._leave()
        self.worklist.begin()
        self.update()
        self.worklist.move(0)

    # --- What is looked at -------------------------------------------------------------------------------------------

    @property
    def node(self):
        """The volume node that is looked at, or None (it may have been deleted)."""
        return self._node if slicer.mrmlScene.IsNodePresent(self._node) else None

    def jump(self, number):
        """Show another slice of the volume that is looked at."""
        self._navigator.jump(number)
        self._onMoved(number)

    def moveFlagged(self, step):
        """Show the next (1) or previous (-1) flagged slice."""
        current = self._row["slice"] if self._row else -math.inf
        numbers = [int(row["slice"]) for row in self._rows if row["flagged"] and (row["slice"] - current) * step > 0]
        if numbers:
            self.jump(min(numbers) if step > 0 else max(numbers))
        else:
            self.run.say(_("There is no further flagged slice."), passing=True)

    def onJump(self, volumeNode, number):
        """A view was asked to show a slice of a volume."""
        name = self.logic.results.nameOf(volumeNode)
        if name != self._name and name in self.worklist.names():
            self.worklist.choose(name)
        if name == self._name:
            self.jump(number)

    def onExport(self):
        """Write tables, decisions and report."""
        folder = self.parameter.exportFolder
        self.run.start("export", self.logic.startExport, folder, onDone=lambda: self._onExported(folder))

    def _onExported(self, folder):
        path = folder.absolute() / "report.html"
        link = f'<a href="{path.as_uri()}">{path.name}</a>'
        self.run.say(_("Written: {link}").format(link=link), passing=True, kind="export")

    def _onChosen(self, name):
        self.run.moveOn()
        self.review.onNote()  # what was typed belongs to the volume that is left
        if name is None:
            self._leave()
            return
        self._navigator.leave()
        self._loader.stop()
        self._name, self._node = name, None
        self._rows, self._row = self.logic.results.sliceRows(name), self.logic.results.worstSlice(name)
        self._load()

    def _load(self):
        """Show the volume that is looked at, once it is there."""
        self.run.moveOn()
        try:
            self._node = self.logic.loadVolume(self._name, self._loader.load) if self._isScored() else None
        except MemorizationIndexError as error:
            self.run.say(str(error), passing=True)
        if not self._isScored():
            self._navigator.empty()
        if self._node is not None and self._row is not None:
            self._navigator.show(self._node, self._rows)
            self._navigator.jump(int(self._row["slice"]))
        self._showSlice()

    def _onLoaded(self):
        if self.parameter is not None:
            self.run.changed()  # the lists of volumes leave it out

    def _onMoved(self, number):
        row = next((row for row in self._rows if row["slice"] == number), None)
        if row is not None and row is not self._row:
            self._row = row
            self.run.moveOn()
            self._showSlice()

    def _onDecided(self):
        self.run.moveOn()
        self.update()

    def _showSlice(self):
        number = int(self._row["slice"]) if self._row else None
        self.plot.draw(self._rows, number, "" if self._isScored() else _("This volume was skipped: it has no scores."))
        self.review.show(self._name if self._isScored() else None, number)
        shown = shownName(self._name, self._isScored())
        self.ui.chosenLabel.text = (
            shown if number is None else _("{volume} · slice {number}").format(volume=shown, number=number)
        )
        self.ui.volumeLabel.text = _describe(self._row) if self._row else self._reason()
        self._onShown(self.node, self._row)

    def _leave(self):
        self._navigator.leave()
        self._loader.stop()
        self._name, self._rows, self._row, self._node = None, [], None, None
        filtered = self.worklist.isFiltered and not self.worklist.names()
        self.plot.draw([], empty=_("No volume is like that; change the filter above.") if filtered else "")
        self.review.show(None, None)
        self.ui.chosenLabel.clear()
        self.ui.volumeLabel.clear()
        self._onShown(None, None)

    def _isScored(self):
        """Whether the chosen volume was scored, not left out: of one that was, nothing is loaded, nothing decided."""
        row = self.logic.results.row(self._name)
        return row is not None and row["verdict"] != "skipped"

    def _reason(self):
        row = self.logic.results.row(self._name) if self._name else None
        return row["reason"] if row else ""

    def _worklistRows(self):
        classes = self.logic.results.worstClasses(CLASSES)
        made = self.logic.review.rows()
        decisions = {row["volume"]: row["decision"] for row in made if not row["slice"]}
        slices = collections.Counter(row["volume"] for row in made if row["slice"] and row["decision"])
        return [
            {
                **row,
                "match_class": classes.get(row["volume"], ""),
                "decision": decisions.get(row["volume"], ""),
                "decided_slices": slices[row["volume"]],
            }
            for row in self.logic.results.rows()
        ]


def _describe(row):
    """One slice in a line; numbers that were not given are left out."""
    numbers = {
        "p_value": _("p {value:.3g}"),
        "mi": _("MI {value:.1f}"),
        "oni": _("ONI {value:+.2f}"),
        "ncc": _("NCC {value:.2f}"),
    }
    said = [text.format(value=row[name]) for name, text in numbers.items() if not math.isnan(row[name])]
    match = _("{volume} slice {number}").format(volume=row["match_volume"], number=int(row["match_slice"]))
    start = [_("slice {number}").format(number=int(row["slice"])), row["match_class"] or _("not verified")]
    return " · ".join([*start, *said, match, *([transformText(row["transform"])] if row["transform"] else [])])
