"""A small Slicer shell: real MRML (slicer-core) and real Qt (PySide6), with strict stand-ins for what neither has.

``start()`` once in a process; afterwards ``import slicer, qt, ctk, vtk`` work as inside Slicer, for the part of Slicer
that is written here. What the stand-ins do not know raises. Tests on this host must hold in the application too.
"""

import os
import sys
import types


def start():
    """Start the shell in this process and return ``slicer.app``. A second call returns the same application."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    import slicer

    if hasattr(slicer, "app"):
        return slicer.app
    from . import qtpatch, uiloader, widgets

    qtpatch.install(uiloader.QUiLoader)
    sys.modules["ctk"] = types.ModuleType("ctk")
    for target, classes in ((sys.modules["ctk"], widgets.CTK), (slicer, widgets.QMRML)):
        for cls in classes:
            setattr(target, cls.__name__, cls)
    from . import application

    application.create()
    from . import parameternode, scriptedmodule

    slicer.qSlicerScriptedLoadableModule = scriptedmodule.qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = scriptedmodule.qSlicerScriptedLoadableModuleWidget
    _publish("ScriptedLoadableModule", vars(scriptedmodule), "ScriptedLoadableModule")
    _publish("parameterNodeWrapper", vars(parameternode), "parameterNodeWrapper", "Choice", "WithinRange")
    _publish("i18n", {"tr": lambda text: text, "translate": lambda _context, text: text}, "tr", "translate")
    return slicer.app


def _publish(name, source, *prefixes):
    """Make ``slicer.<name>`` a module that holds those names of ``source`` that start with one of ``prefixes``."""
    import slicer

    module = types.ModuleType(f"slicer.{name}")
    for key, value in source.items():
        if key.startswith(prefixes):
            setattr(module, key, value)
    module.__all__ = [key for key in vars(module) if not key.startswith("__")]
    sys.modules[f"slicer.{name}"] = module
    setattr(slicer, name, module)


def loadModule(path):
    """Load a scripted module file and return it as ``slicer.modules.<name>`` shows it."""
    start()
    from . import scriptedmodule

    return scriptedmodule.load(str(path))


def shutdown():
    """Close the scene, drop the logics and remove what the application wrote."""
    import slicer

    slicer.mrmlScene.Clear(0)
    slicer.app.closeViews()
    slicer.app.removeTemporaryFiles()
