"""``slicer.app``, ``slicer.mrmlScene`` and the logics of the modules that real MRML needs, built on ``slicer-core``."""

import os
import shutil
import sys
import tempfile
import types

import qt
import slicer
import vtk
from PySide6 import QtCore

from .widgets import Strict

# Registered in this order; without them sequences, color legends and segmentations fail or end the process.
_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
}


class ModuleManager(Strict, QtCore.QObject):
    """Finds loaded scripted modules."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)
    modules = None

    def __init__(self):
        super().__init__()
        self.modules = {}

    def module(self, name):
        return self.modules.get(name)


class CoreIOManager(Strict):
    """Loads volumes and scenes, saves scenes. Other file types are unknown to this host."""

    def fileType(self, filename):
        raise NotImplementedError(f"This host does not guess the type of {filename}; name it")

    def loadNodes(self, fileType, properties, loaded, messages):
        if fileType == "SceneFile":
            return slicer.mrmlScene.ReadFromMRB(properties["fileName"], properties.get("clear", True), messages)
        if fileType != "VolumeFile":
            raise NotImplementedError(f"This host does not load {fileType}")
        unknown = set(properties) - {"fileName", "name", "show", "singleFile"}
        if unknown:
            raise NotImplementedError(f"This host does not know the volume properties {sorted(unknown)}")
        name = properties.get("name") or os.path.basename(properties["fileName"]).split(".")[0]
        node = slicer.modules.volumes.logic().AddArchetypeVolume(properties["fileName"], name)
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def saveNodes(self, fileType, properties, messages):
        if fileType != "SceneFile" or not properties["fileName"].endswith(".mrb"):
            raise NotImplementedError(f"This host saves scenes as .mrb only, not {properties['fileName']}")
        return slicer.mrmlScene.WriteToMRB(properties["fileName"])


class Application(Strict, qt.QApplication):
    """The part of qSlicerApplication that scripts use."""

    startupCompleted = QtCore.Signal()
    launcherExecutableFilePath = temporaryPath = None
    mainWindowWanted = True  # --no-main-window on the command line

    def __init__(self):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.temporaryPath = tempfile.mkdtemp(prefix="SlicerHost-")
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, self.temporaryPath)
        self.launcherExecutableFilePath = self._writeLaunchers()
        self._applicationLogic = slicer.vtkSlicerApplicationLogic()
        self._moduleManager, self._ioManager, self._layoutManager = ModuleManager(), CoreIOManager(), None

    def _writeLaunchers(self):
        """``PythonSlicer`` and ``Slicer``: as in Slicer, a launcher that starts the real program as its child."""
        folder = os.path.join(self.temporaryPath, "bin")
        os.mkdir(folder)
        python = [sys.executable, *(["-S"] if sys.flags.no_site else [])]  # the packages that this process has
        for name, arguments in (("PythonSlicer", []), ("Slicer", [_MAIN])):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(_LAUNCHER.format(python=sys.executable, command=[*python, *arguments]))
            os.chmod(path, 0o755)
        os.environ["PATH"] = folder + os.pathsep + os.environ["PATH"]
        return os.path.join(folder, "Slicer")

    def testingEnabled(self):
        return True

    def coreIOManager(self):
        return self._ioManager

    def moduleManager(self):
        return self._moduleManager

    def applicationLogic(self):
        return self._applicationLogic

    def layoutManager(self):
        """The views; None without a main window. They are made when first asked for: few tests look at any."""
        if self._layoutManager is None and self.mainWindowWanted:
            from .views import qSlicerLayoutManager

            self._layoutManager = qSlicerLayoutManager()
        return self._layoutManager

    def mrmlScene(self):
        return slicer.mrmlScene

    def closeViews(self):
        if self._layoutManager is not None:
            self._layoutManager._release()
            self._layoutManager, self.mainWindowWanted = None, False

    def removeTemporaryFiles(self):
        shutil.rmtree(self.temporaryPath, ignore_errors=True)


_MAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
_LAUNCHER = """#!{python}
import subprocess, sys
sys.exit(subprocess.call([*{command!r}, *sys.argv[1:]]))
"""


def create():
    """Make the application, its scene and its logics: ``slicer.app``, ``slicer.mrmlScene``, ``slicer.modules``."""
    slicer.app = Application()
    scene, logic = slicer.vtkMRMLScene(), slicer.app.applicationLogic()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    # slicer-core ships no color files: an empty folder instead of an error
    os.makedirs(os.path.join(slicer.app.temporaryPath, "share", "ColorFiles"))
    logic.SetHomeDirectory(slicer.app.temporaryPath)
    logic.SetShareDirectory("share")
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.mrmlScene = scene
    slicer.modules = types.SimpleNamespace()
    slicer.selfTests = {}
    for name, className in _LOGICS.items():
        _register(name, getattr(slicer, className)(), logic, scene)
    io = slicer.vtkMRMLRemoteIOLogic()
    cache = os.path.join(slicer.app.temporaryPath, "cache")
    os.mkdir(cache)
    io.GetCacheManager().SetRemoteCacheDirectory(cache)
    io.SetMRMLApplicationLogic(logic)
    io.SetMRMLScene(scene)
    io.AddDataIOToScene()
    slicer.modules.remoteIO = io  # scenes are read through it: kept alive


def _register(name, moduleLogic, applicationLogic, scene):
    moduleLogic.SetMRMLApplicationLogic(applicationLogic)
    moduleLogic.SetMRMLScene(scene)
    applicationLogic.SetModuleLogic(name, moduleLogic)
    setattr(slicer.modules, name.lower(), types.SimpleNamespace(name=name, logic=lambda: moduleLogic))
