"""``slicer.ScriptedLoadableModule`` and the loader of scripted modules."""

import importlib.util
import os
import sys
import unittest

import qt
import slicer

from .widgets import Strict, qMRMLWidget


class ScriptedLoadableModule:
    """Base of the class that describes a module."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def runTest(self, msec=100, **kwargs):
        case = getattr(sys.modules[type(self).__module__], self.moduleName + "Test")()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Base of a module's panel. The application calls ``setup`` after construction."""

    def __init__(self, parent=None):
        if parent is None:
            raise NotImplementedError("This host makes panels through widgetRepresentation() only")
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()
        self.developerMode = False
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename):
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self):
        pass

    def cleanup(self):
        pass

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: the parameter node is a singleton of the scene."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.AddNode(self.createParameterNode())
        elif node.GetAttribute("ModuleName") != self.moduleName:
            node.SetAttribute("ModuleName", self.moduleName)  # closing the scene takes it away
        return node

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self test."""

    messageDelay = 100

    def runTest(self):
        pass

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        slicer.util.delayDisplay(message, self.messageDelay)


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The application's side of a panel: owns the Python object, tells it when it is shown and left."""

    def __init__(self, moduleName):
        super().__init__()
        self._moduleName, self._self, self._entered = moduleName, None, False
        qt.QVBoxLayout(self)
        self.reload()
        self.setMRMLScene(slicer.mrmlScene)

    def self(self):
        return self._self

    def reload(self):
        cls = getattr(sys.modules[self._moduleName], self._moduleName + "Widget")
        self._self = cls(self)
        setattr(slicer.modules, self._moduleName + "Widget", self._self)
        self._self.setup()

    @property
    def isEntered(self):
        return self._entered

    def enter(self):
        self._entered = True
        if hasattr(self._self, "enter"):
            self._self.enter()

    def exit(self):
        self._entered = False
        if hasattr(self._self, "exit"):
            self._self.exit()


class qSlicerScriptedLoadableModule(Strict):
    """A loaded module as ``slicer.modules.<name>`` shows it; its class writes the description into it."""

    title = categories = dependencies = contributors = helpText = acknowledgementText = icon = hidden = None
    name = path = None

    def __init__(self, name, path):
        self.name, self.path = name, path
        self._widget = None

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.name)
        return self._widget

    def unload(self):
        """The application's way out: observers must be gone afterwards."""
        slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(self.name)
        self._widget = None


def load(path):
    """Load the scripted module at ``path`` as the application does for a folder in its additional module paths."""
    path = os.path.abspath(path)
    name = os.path.splitext(os.path.basename(path))[0]
    if os.path.dirname(path) not in sys.path:
        sys.path.append(os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    module = qSlicerScriptedLoadableModule(name, path)
    getattr(sys.modules[name], name)(module)
    setattr(slicer.modules, name.lower(), module)
    slicer.app.moduleManager().modules[name] = module
    return module
