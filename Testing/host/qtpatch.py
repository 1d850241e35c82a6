"""Real Qt (PySide6) behaving as PythonQt does inside Slicer: properties, ``connect`` by signature, ``name``.

PySide6 offers ``label.text()`` and silently accepts ``label.enabled = False`` as a new Python attribute; PythonQt
offers ``label.text`` and sets the property. Tests on unpatched PySide6 would pass on code that does nothing in Slicer,
and the other way round, so the real classes get PythonQt's face before anything imports ``qt``.
"""

import inspect
import sys
import types

import shiboken6
from PySide6 import QtCore, QtGui, QtTest, QtUiTools, QtWidgets

# Overloads that Qt 6 no longer has: connecting to them in Slicer fails, so it must fail here.
_GONE = {"currentIndexChanged(QString)", "activated(QString)", "valueChanged(QString)", "highlighted(QString)"}


def _qobject_classes():
    """Every QObject class of the three Qt modules, base classes first."""
    found = {
        value
        for module in (QtCore, QtGui, QtWidgets)
        for value in [getattr(module, name) for name in dir(module)]
        if inspect.isclass(value) and issubclass(value, QtCore.QObject)
    }
    return sorted(found, key=lambda cls: (len(cls.__mro__), cls.__name__))


def _capitalized(name):
    return name[0].upper() + name[1:]


def _accessor(cls, *names):
    """The first method among ``names`` that the class has and that is not static."""
    for name in names:
        member = inspect.getattr_static(cls, name, None)
        if member is not None and not isinstance(member, (staticmethod, property)):
            return getattr(cls, name)
    return None


def _property(cls, name):
    getter = _accessor(cls, name, "is" + _capitalized(name), "has" + _capitalized(name))
    setter = _accessor(cls, "set" + _capitalized(name))

    def read(self):
        return getter(self) if getter else self.property(name)

    def write(self, value):
        if setter:
            setter(self, value)
        elif not self.setProperty(name, value):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set")

    return property(read, write)


def _patch_properties():
    for cls in _qobject_classes():
        meta = cls.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(index).name()
            if isinstance(inspect.getattr_static(cls, name, None), staticmethod):
                continue
            setattr(cls, name, _property(cls, name))


def _signal(sender, signature):
    """The bound signal that a C++ signature names, or an error where Slicer's Qt has none."""
    if signature in _GONE:
        raise ValueError(f"Qt 6 has no signal {signature}")
    name, _, rest = signature.partition("(")
    arguments = rest.rstrip(")").replace(" ", "")
    signal = getattr(type(sender), name, None)
    if not isinstance(signal, QtCore.Signal):
        raise ValueError(f"{type(sender).__name__} has no signal {signature}")
    bound = getattr(sender, name)
    meta = sender.metaObject()
    known = {
        bytes(meta.method(i).methodSignature()).decode()
        for i in range(meta.methodCount())
        if meta.method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
    }
    if rest and f"{name}({arguments})" not in known and (name, arguments) not in _python_signals(sender):
        raise ValueError(f"{type(sender).__name__} has no signal {signature}; it has {sorted(known)}")
    try:
        return bound[arguments] if arguments else bound
    except (KeyError, IndexError, TypeError):
        return bound


def _python_signals(sender):
    """(name, C++ arguments) of signals that stand-ins emit with Python objects where Slicer's have MRML classes."""
    return getattr(type(sender), "mrmlSignals", frozenset())


def _receiver(arguments):
    """What ``connect(signal, f)`` or ``connect(signal, object, "slot()")`` calls."""
    if len(arguments) == 1:
        return arguments[0]
    target, slot = arguments
    return getattr(target, slot.partition("(")[0])


def _connect(sender, signature, *receiver):
    if not isinstance(signature, str):  # PySide6's own QTimer.singleShot calls the static form on an instance
        return QtCore.QObject.connect(signature, *receiver)
    _signal(sender, signature).connect(_receiver(receiver))
    return True


def _disconnect(sender, signature, *receiver):
    _signal(sender, signature).disconnect(_receiver(receiver))
    return True


def _patch_connect():
    """PySide6 resolves ``instance.connect`` in C: only ``__getattribute__`` can replace it (a few classes have one)."""
    for cls in _qobject_classes():
        if "__getattribute__" in vars(cls):
            cls.__getattribute__ = _with_connect(cls.__getattribute__)


def _with_connect(original):
    helpers = {"connect": _connect, "disconnect": _disconnect}

    def getattribute(self, name):
        helper = helpers.get(name)
        return types.MethodType(helper, self) if helper else original(self, name)

    return getattribute


def _patch_names():
    cls = QtCore.QObject
    cls.name = property(lambda self: self.objectName, lambda self, value: self.setObjectName(value))
    cls.className = lambda self: self.metaObject().className()
    cls.delete = shiboken6.delete


def install(loader):
    """Patch PySide6 and put the merged ``qt`` module, with ``loader`` as its ``QUiLoader``, into ``sys.modules``."""
    if "qt" in sys.modules:
        raise RuntimeError("qt was imported before the host was started")
    _patch_properties()
    _patch_connect()
    _patch_names()
    qt = types.ModuleType("qt", "Qt as Slicer's PythonQt shows it")
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            if name.startswith("Q") and name not in ("QtCore", "QtGui", "QtWidgets"):
                setattr(qt, name, getattr(module, name))
    qt.QUiLoader = loader
    qt.QTest = QtTest.QTest
    sys.modules["qt"] = qt
    assert QtUiTools  # imported here so that its classes are patched with the rest
    return qt
