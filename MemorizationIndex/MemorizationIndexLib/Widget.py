"""The panel. It shows the parameter node and hands on what the user does; it computes nothing."""

import qt
import vtk

from .AdvancedPanel import AdvancedPanel
from .DisplayPanel import DisplayPanel
from .ExaminePanel import ExaminePanel
from .InstallPanel import InstallPanel
from .ReferencePanel import ReferencePanel
from .ResultsPanel import ResultsPanel
from .RunPanel import RunPanel
from .Shortcuts import Shortcuts

_AFTER_FORM = -1.0  # priority of an observer that is told after connectGui's


class Widget:
    """Ties the form ``ui`` (its root: ``form``) to the ``logic`` and to the scene's parameters, section by section.

    It is tied to the parameter node for as long as a scene is open, not only while the panel is shown: ``connectGui``
    of Slicer 5.10 cannot be undone, so that every further connection would stay.
    """

    def __init__(self, ui, logic, form):
        self.ui, self.logic = ui, logic
        self._parameter, self._guiTag, self._observer = None, None, None
        self.run = RunPanel(ui, logic, self.update)
        self.display = DisplayPanel(ui, logic, self.run, self.onJump)
        self.results = ResultsPanel(ui, logic, self.run, self.display.show)
        self.reference = ReferencePanel(ui, logic, self.run)
        self.examine = ExaminePanel(ui, logic, self.run, self.onScored)
        actions = self._actions()
        self.shortcuts = Shortcuts(form, actions)
        self.advanced = AdvancedPanel(ui, Shortcuts.texts(actions))
        self._sections = (self.reference, self.examine, self.results, self.display, self.advanced)
        self._paths = [ui.referencePath, ui.trainingFilesPath, ui.filesPath, ui.exportPath, ui.trainingPath, ui.keyPath]
        self._paths.append(ui.weightsPath)
        self.install = InstallPanel(ui, logic.installer, self.update)
        self.update()

    # --- The scene ---------------------------------------------------------------------------------------------------

    def attach(self):
        """Show the scene's parameters and results."""
        parameter = self.logic.getParameterNode()
        if self._parameter is None or self._parameter.parameterNode is not parameter.parameterNode:
            self.detach()
            self._parameter = parameter
            for section in self._sections:
                section.parameter = parameter
            self._guiTag = parameter.connectGui(self.ui)
            node = parameter.parameterNode
            self._observer = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self.onParameterModified, _AFTER_FORM)
        self.update()

    def detach(self):
        """Let go of the scene."""
        if self._parameter is not None:
            self._parameter.disconnectGui(self._guiTag)
            self._parameter.parameterNode.RemoveObserver(self._observer)
        self._parameter = None
        for section in self._sections:
            section.parameter = None
        self.results.detach()
        self.display.detach()
        self.logic.results.detach()

    def attachOpened(self):
        """Show an opened scene, once more when all of it is in place: the subject hierarchy is completed last."""
        self.attach()
        qt.QTimer.singleShot(0, self._updateAttached)

    def _updateAttached(self):
        if self._parameter is not None:
            self.update()

    def cleanup(self):
        """Stop what is running and wait for its end, which comes within seconds."""
        self.logic.stop()
        self.logic.wait()
        self.detach()
        self.shortcuts.cleanup()
        self.advanced.cleanup()

    def onParameterModified(self, _caller, _event):
        """The scene's parameters were changed, by whomever."""
        self.update()

    def update(self):
        """Bring the form up to date with the parameters and the state of the run."""
        self.install.parameter = self._parameter
        self.install.recall()
        self.install.update()
        self.run.update()
        if self._parameter is not None:
            self._clearPaths()
            for section in self._sections:
                section.update()

    def _clearPaths(self):
        """Show nothing where no path is chosen; ``connectGui`` shows an empty path as a dot."""
        for edit in self._paths:
            if edit.currentPath == ".":
                blocked = edit.blockSignals(True)
                edit.currentPath = ""
                edit.blockSignals(blocked)

    # --- What the user does ------------------------------------------------------------------------------------------

    def onScored(self):
        """Show a result that has just come."""
        if self._parameter is not None:
            self.display.overlay.update()
            self.results.renew()

    def onJump(self, volumeNode, number):
        """The user clicked a slice in a view's band."""
        self.results.onJump(volumeNode, number)

    def _actions(self):
        """What the keys do."""
        results = self.results
        return {
            "nextFlagged": lambda: results.moveFlagged(1),
            "previousFlagged": lambda: results.moveFlagged(-1),
            "nextVolume": lambda: results.worklist.move(1),
            "previousVolume": lambda: results.worklist.move(-1),
            "overlay": self.display.toggleOverlay,
            "blink": self.display.toggleBlink,
            "copy": lambda: results.review.decide("copy"),
            "notCopy": lambda: results.review.decide("not a copy"),
            "unsure": lambda: results.review.decide("unsure"),
        }
