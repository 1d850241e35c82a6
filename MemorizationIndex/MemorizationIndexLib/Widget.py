"""The panel. It shows the parameter node, starts and stops runs; it computes nothing."""

import qt
import slicer
import vtk
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .Results import Results


class Widget:
    """Ties the form ``ui`` to the ``logic`` and to the scene's parameters.

    It is tied to the parameter node for as long as a scene is open, not only while the panel is shown: ``connectGui``
    of Slicer 5.10 cannot be undone, so that every further connection would stay.
    """

    def __init__(self, ui, logic):
        self.ui, self.logic = ui, logic
        self._parameter, self._guiTag, self._observer, self._updating = None, None, None, False
        ui.applyButton.connect("clicked()", self.onApply)
        ui.buildButton.connect("clicked()", self.onBuild)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.loadMatchButton.connect("clicked()", self.onLoadMatch)
        ui.volumeSelector.connect("checkedNodesChanged()", self.onChecked)
        ui.trainingSelector.connect("checkedNodesChanged()", self.onChecked)
        self.update()

    # --- The scene ---------------------------------------------------------------------------------------------------

    def attach(self):
        """Show the scene's parameters and results."""
        parameter = self.logic.getParameterNode()
        if self._parameter is None or self._parameter.parameterNode is not parameter.parameterNode:
            self.detach()
            self._parameter = parameter
            self._guiTag = parameter.connectGui(self.ui)
            self._observer = parameter.AddObserver(vtk.vtkCommand.ModifiedEvent, self.onParameterModified)
        self.update()

    def detach(self):
        """Let go of the scene."""
        if self._parameter is not None:
            self._parameter.disconnectGui(self._guiTag)
            self._parameter.RemoveObserver(self._observer)
        self._parameter = None
        self.ui.volumeTableView.setMRMLTableNode(None)

    def cleanup(self):
        """Stop what is running and wait for its end, which comes within seconds."""
        self.logic.stop()
        self.logic.wait()
        self.detach()

    def onParameterModified(self, _caller, _event):
        """The scene's parameters were changed, by whomever."""
        self.update()

    def onChecked(self):
        """Keep the user's choice of volumes in the scene."""
        if self._parameter is None or self._updating:
            return
        with slicer.util.NodeModify(self._parameter):
            self._parameter.volumes = _checked(self.ui.volumeSelector)
            self._parameter.trainingVolumes = _checked(self.ui.trainingSelector)

    def update(self):
        """Bring the form up to date with the parameters and the state of the run."""
        ui, parameter, busy = self.ui, self._parameter, self.logic.busy
        if parameter is not None:
            self._updating = True
            _check(ui.volumeSelector, parameter.volumes)
            _check(ui.trainingSelector, parameter.trainingVolumes)
            self._updating = False
            if ui.volumeTableView.mrmlTableNode() is not parameter.volumeTable:
                ui.volumeTableView.setMRMLTableNode(parameter.volumeTable)
        missing = self.logic.installer.consentLine()
        ui.installLabel.text = missing
        ui.installLabel.visible = ui.installButton.visible = bool(missing)
        ready = parameter is not None and not missing
        ui.applyButton.text = _("Stop") if busy else _("Apply")
        ui.applyButton.enabled = busy or (ready and bool(_checked(ui.volumeSelector)))
        ui.buildButton.enabled = ready and not busy and bool(_checked(ui.trainingSelector))
        ui.loadMatchButton.enabled = ready and not busy and parameter.volumeTable is not None
        ui.progressBar.visible = busy

    # --- What the user does ------------------------------------------------------------------------------------------

    def onApply(self):
        """Start to score, or stop what is running."""
        if self.logic.busy:
            self.ui.statusLabel.text = _("Stopping…")
            self.logic.stop()
            return
        parameter = self._parameter
        self._run(
            self.logic.startScoring,
            _checked(self.ui.volumeSelector),
            parameter.referenceFolder,
            parameter.trainingFolder,
        )

    def onBuild(self):
        """Build a reference from the chosen training volumes."""
        parameter = self._parameter
        self._run(
            self.logic.startBuilding,
            _checked(self.ui.trainingSelector),
            parameter.referenceFolder,
            None,
            parameter.plane,
        )

    def onInstall(self):
        """Install what is missing, after asking."""
        self.logic.installer.install()
        self.update()

    def onLoadMatch(self):
        """Load the training volume that the selected row matches."""
        results = Results(self._parameter)
        row = self.ui.volumeTableView.currentIndex().row()
        table = self._parameter.volumeTable
        node = results.volumes().get(table.GetCellText(row, table.GetColumnIndex("volume"))) if row >= 0 else None
        if node is None:
            self.ui.statusLabel.text = _("Select the row of a volume that is in the scene.")
            return
        try:
            match = self.logic.loadMatch(node, self._parameter.trainingFolder)
        except MemorizationIndexError as error:
            self.ui.statusLabel.text = str(error)
        else:
            self.ui.statusLabel.text = _("Matched training volume: {name}").format(name=match.GetName())

    # --- The run -----------------------------------------------------------------------------------------------------

    def _run(self, start, *arguments):
        self.ui.progressBar.maximum = 0
        self.ui.statusLabel.text = _("Starting…")
        try:
            start(*arguments, onEvent=self.onEvent, onFinished=self.onFinished)
        except MemorizationIndexError as error:
            self.ui.statusLabel.text = str(error)
        self.update()

    def onEvent(self, event):
        """Show what the worker is doing."""
        if event["event"] != "progress":
            return
        self.ui.progressBar.maximum = event["total"]
        self.ui.progressBar.value = event["done"]
        text = _("{stage}: {done} of {total} {unit}").format(**event)
        if event["seconds_left"] is not None:
            text += _(", {seconds:.0f} s left").format(seconds=event["seconds_left"])
        self.ui.statusLabel.text = text

    def onFinished(self, outcome, message):
        """Show how the run ended."""
        self.ui.statusLabel.text = {"done": _("Done."), "stopped": _("Stopped."), "failed": message}[outcome]
        self.update()


def _checked(selector):
    """The checked nodes of a selector. (Its own list of nodes does not reach Python in every Slicer.)"""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if selector.checkState(node) == qt.Qt.Checked]


def _check(selector, nodes):
    """Check exactly ``nodes`` (those deleted since are None)."""
    wanted = [node for node in nodes if node is not None]
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        state = qt.Qt.Checked if node in wanted else qt.Qt.Unchecked
        if selector.checkState(node) != state:
            selector.setCheckState(node, state)
