"""What Slicer loads: the module, its panel, its logic and its self test. The work is in MemorizationIndexLib."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import slicer
from MemorizationIndexLib import MemorizationIndexLogic, Widget, registerSampleScans
from MemorizationIndexLib.Shortcuts import KEYS, Shortcuts
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

__all__ = ["MemorizationIndex", "MemorizationIndexLogic", "MemorizationIndexTest", "MemorizationIndexWidget"]


class MemorizationIndex(ScriptedLoadableModule):
    """The module's description."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Memorization Index")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        parent.dependencies = []
        parent.contributors = ["MemorizationIndex developers"]
        parent.helpText = _(
            "Finds copies of training scans among the images that a generative model made, and says how sure it is. "
            "Choose a reference (what was fitted on the training scans), choose volumes, press Apply."
        )
        keys = "".join(f"<li>{key}: {text}</li>" for key, text in Shortcuts.texts(KEYS).items())
        parent.helpText += _("<p>Keys, while the panel is shown:</p>") + f"<ul>{keys}</ul>"
        parent.acknowledgementText = _("The method follows arXiv 2602.13066; how it departs from it is documented.")
        slicer.app.connect("startupCompleted()", registerSampleScans)


class MemorizationIndexWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's life in the application."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic, self.panel, self._form = None, None, None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self._form = form = slicer.util.loadUI(self.resourcePath("UI/MemorizationIndex.ui"))
        self.layout.addWidget(form)
        form.setMRMLScene(slicer.mrmlScene)
        self.logic = MemorizationIndexLogic()
        self.panel = Widget(slicer.util.childWidgetVariables(form), self.logic, form)
        self.panel.attach()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneOpened)

    def cleanup(self):
        self.removeObservers()
        if self.panel:
            self.panel.cleanup()
        if (
            self._form
        ):  # a reload only hides it: it would go on to watch the scene, and keep all that it is connected to
            self._form.setMRMLScene(None)
            self._form.deleteLater()
            self._form = None

    def enter(self):
        self.panel.attach()

    def onSceneStartClose(self, _caller, _event):
        self.panel.detach()

    def onSceneChanged(self, _caller, _event):
        self.panel.attach()

    def onSceneOpened(self, _caller, _event):
        self.panel.attachOpened()

    def onReload(self):
        """Forget the library's files too, so that edits in them take effect."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "MemorizationIndexLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class MemorizationIndexTest(ScriptedLoadableModuleTest):
    """What "Reload and Test" runs: a copy among generated volumes is found, a new volume is not."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_CopyIsFound()

    def test_CopyIsFound(self):
        self.delayDisplay(_("Building a reference from generated volumes"))
        random = np.random.default_rng(0)
        training = [_blobs(random, f"training{i}") for i in range(6)]
        copy = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(training[2]).copy(), name="copy")
        new = _blobs(random, "new")
        logic = MemorizationIndexLogic()
        with tempfile.TemporaryDirectory() as folder:
            logic.build(training, Path(folder) / "reference")
            logic.score([copy, new], Path(folder) / "reference")
        self.assertEqual(copy.GetAttribute("MemorizationIndex.Verdict"), "copy")
        self.assertIs(copy.GetNodeReference("MemorizationIndexMatch"), training[2])
        self.assertNotEqual(new.GetAttribute("MemorizationIndex.Verdict"), "copy")
        self.delayDisplay(_("Test passed"))


def _blobs(random, name):
    """A volume of smooth random texture within an ellipsoid: another one in every call."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in (14, 48, 48)], indexing="ij")
    values = np.full(axes[0].shape, 10.0)
    for _wave in range(40):
        frequency, phase = random.uniform(-12, 12, 3), random.uniform(0, 6)
        values += random.normal() * np.cos(sum(f * axis for f, axis in zip(frequency, axes, strict=True)) + phase)
    inside = sum((axis / radius) ** 2 for axis, radius in zip(axes, random.uniform(0.6, 0.95, 3), strict=True)) < 1
    return slicer.util.addVolumeFromArray((values * 20 * inside).astype(np.int16), name=name)
