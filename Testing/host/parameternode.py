"""``slicer.parameterNodeWrapper``, small: typed access to a parameter node, and two-way binding of widgets.

Types known here: int, float, bool, str, pathlib.Path, MRML nodes, lists of those; validators: Choice, WithinRange.
Everything else raises when the class is decorated.
"""

import dataclasses
import pathlib
import typing

import slicer
import vtk


class Choice:
    """One of the given values."""

    def __init__(self, choices):
        self.choices = list(choices)

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


@dataclasses.dataclass
class WithinRange:
    """A number between two others, both included."""

    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value!r} is not within {self.minimum} and {self.maximum}")


class _Text:
    """A value kept as text in the parameter node."""

    def __init__(self, kind, default, write, read):
        self.kind, self.default, self._write, self._read = kind, default, write, read

    def check(self, value):
        accepted = (int, float) if self.kind is float else self.kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            raise TypeError(f"{value!r} is not a {self.kind.__name__}")

    def write(self, node, name, value):
        self.check(value)
        node.SetParameter(name, self._write(value))

    def read(self, node, name):
        return self._read(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)

    def isIn(self, node, name):
        return node.HasParameter(name)


class _Node:
    """A reference to a MRML node whose role is the parameter's name; a deleted node reads None."""

    default = None

    def __init__(self, kind):
        self.kind = kind

    def write(self, node, name, value):
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{value!r} is not a {self.kind.__name__}")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)

    def isIn(self, node, name):
        return node.HasParameter(name)


class _List:
    """``name.len``, ``name.0``, ``name.1``, …; what is read is a tuple, so that a change in place cannot get lost."""

    default = ()

    def __init__(self, element):
        self._element = element

    def write(self, node, name, values):
        with slicer.util.NodeModify(node):
            length = int(node.GetParameter(f"{name}.len") or 0)
            for index, value in enumerate(values):
                self._element.write(node, f"{name}.{index}", value)
            node.SetParameter(f"{name}.len", str(len(values)))
            for index in range(len(values), length):
                self._element.remove(node, f"{name}.{index}")

    def read(self, node, name):
        count = int(node.GetParameter(f"{name}.len") or 0)
        return tuple(self._element.read(node, f"{name}.{index}") for index in range(count))

    def isIn(self, node, name):
        return node.HasParameter(f"{name}.len")


_TEXT = {
    int: _Text(int, 0, str, int),
    float: _Text(float, 0.0, str, float),
    bool: _Text(bool, False, str, lambda text: text == "True"),
    str: _Text(str, "", str, str),
    pathlib.Path: _Text(pathlib.Path, pathlib.Path(), str, pathlib.Path),
}


def _serializer(kind):
    if kind in _TEXT:
        return _TEXT[kind]
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return _Node(kind)
    if typing.get_origin(kind) is list:
        return _List(_serializer(*typing.get_args(kind)))
    raise TypeError(f"This host's parameterNodeWrapper does not know the type {kind}")


class _Parameter:
    """One typed member: a Python property of the wrapper class."""

    def __init__(self, owner, name, annotation):
        annotated = typing.get_origin(annotation) is typing.Annotated
        self.kind, *self.validators = typing.get_args(annotation) if annotated else (annotation,)
        for validator in self.validators:
            if not isinstance(validator, (Choice, WithinRange)):
                raise TypeError(f"This host's parameterNodeWrapper does not know the annotation {validator!r}")
        self.name = name
        self.serializer = _serializer(self.kind)
        self.default = getattr(owner, name, self.serializer.default)

    def __get__(self, wrapper, _owner=None):
        if wrapper is None:
            return self
        if not self.serializer.isIn(wrapper.parameterNode, self.name):  # closing the scene takes it away
            self.serializer.write(wrapper.parameterNode, self.name, self.default)
        return self.serializer.read(wrapper.parameterNode, self.name)

    def __set__(self, wrapper, value):
        for validator in self.validators:
            validator.validate(value)
        self.serializer.write(wrapper.parameterNode, self.name, value)


# --- Binding of widgets: exactly the pairs of widget and type that Slicer binds --------------------------------------


def _bind_combo(widget, parameter):
    choice = next((v for v in parameter.validators if isinstance(v, Choice)), None)
    if choice is None:
        raise RuntimeError("A combo box binds only to a parameter with a Choice")
    widget.clear()
    for value in choice.choices:
        widget.addItem(str(value))
    return (
        widget.currentIndexChanged,
        lambda: choice.choices[widget.currentIndex],
        lambda value: setattr(widget, "currentIndex", choice.choices.index(value)),
    )


def _binding(widget, parameter):
    """(signal, read, write) that tie a widget to a parameter."""
    import ctk
    import qt

    pair = (type(widget), parameter.kind)
    if pair == (qt.QLineEdit, str):
        return widget.textChanged, lambda: widget.text, lambda value: setattr(widget, "text", value)
    if pair == (qt.QCheckBox, bool):
        return widget.stateChanged, lambda: widget.checked, lambda value: setattr(widget, "checked", value)
    if pair == (ctk.ctkPathLineEdit, pathlib.Path):
        return (
            widget.currentPathChanged,
            lambda: pathlib.Path(widget.currentPath),
            lambda value: setattr(widget, "currentPath", str(value)),
        )
    if type(widget) is qt.QComboBox:
        return _bind_combo(widget, parameter)
    raise RuntimeError(f"Unable to create GUI connector from {parameter.kind} to {type(widget)}")


class _Wrapper:
    """What ``@parameterNodeWrapper`` adds to a class."""

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._bindings, self._observers, self._nextTag, self._updating = {}, {}, 0, False
        for parameter in self.allParameters.values():
            for validator in parameter.validators:
                validator.validate(parameter.default)
            if not parameter.serializer.isIn(parameterNode, parameter.name):
                parameter.serializer.write(parameterNode, parameter.name, parameter.default)

    def getValue(self, name):
        return getattr(self, self.allParameters[name].name)

    def setValue(self, name, value):
        setattr(self, self.allParameters[name].name, value)

    def connectGui(self, gui):
        tag, bound = self._nextTag, []
        self._nextTag += 1
        for widget in vars(gui).values():
            name = widget.property("SlicerParameterName")
            if not name:
                continue
            if name not in self.allParameters:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            signal, read, write = _binding(widget, self.allParameters[name])
            write(self.getValue(name))
            slot = self._slot(name, read)
            signal.connect(slot)
            bound.append((name, signal, slot, write))
        self._bindings[tag] = bound
        self._observers[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._updateGui())
        return tag

    def _slot(self, name, read):
        def changed(*_):
            if not self._updating:
                self.setValue(name, read())

        return changed

    def disconnectGui(self, tag):
        self.RemoveObserver(self._observers.pop(tag))
        for _name, signal, slot, _write in self._bindings.pop(tag):
            signal.disconnect(slot)

    def _updateGui(self):
        if self._updating:
            return
        self._updating = True
        try:
            for bound in self._bindings.values():
                for name, _signal, _slot, write in bound:
                    write(self.getValue(name))
        finally:
            self._updating = False

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        self.parameterNode.EndModify(wasModified)


def parameterNodeWrapper(cls):
    """Class decorator: every annotated member becomes a typed parameter of the wrapped node."""
    parameters = {
        name: _Parameter(cls, name, annotation)
        for name, annotation in typing.get_type_hints(cls, include_extras=True).items()
    }
    reserved = [name for name in parameters if hasattr(_Wrapper, name) or name == "allParameters"]
    if reserved:
        raise ValueError(f"Cannot use reserved name {reserved[0]!r} in a parameterNodeWrapper")
    return type(
        cls.__name__, (cls, _Wrapper), {**parameters, "__init__": _Wrapper.__init__, "allParameters": parameters}
    )
