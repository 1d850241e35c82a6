"""The stand-ins refuse what they do not know: a test cannot pass on a typing error or on a guess of ours."""

from typing import Annotated

import ctk
import pytest
import qt
import slicer
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

FORM = """<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form">
<layout class="QVBoxLayout" name="layout"><item><widget class="{kind}" name="child">{content}</widget></item></layout>
</widget><connections>{connections}</connections></ui>"""
CONNECTION = """<connection><sender>{}</sender><signal>{}</signal><receiver>{}</receiver><slot>{}</slot></connection>"""


def load_form(kind="QLabel", content="", connections=""):
    buffer = qt.QBuffer()
    buffer.setData(FORM.format(kind=kind, content=content, connections=connections).encode())
    buffer.open(qt.QIODevice.ReadOnly)
    return qt.QUiLoader().load(buffer)


@pytest.fixture
def parameter_node():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


def test_properties_are_properties():
    label = qt.QLabel("a")
    assert label.text == "a"
    label.enabled = False
    assert not label.isEnabled()
    with pytest.raises(TypeError):
        label.text()


@pytest.mark.parametrize("make", [ctk.ctkPathLineEdit, ctk.ctkCollapsibleButton, slicer.qMRMLCheckableNodeComboBox])
def test_unknown_attributes_of_stand_ins(make):
    widget = make()
    with pytest.raises(AttributeError):
        widget.curentPath = "a"
    with pytest.raises(AttributeError):
        _ = widget.curentPath


@pytest.mark.parametrize("name", ["pythonManager", "ioManager", "userSettings"])
def test_unknown_parts_of_the_application(name):
    with pytest.raises(AttributeError):
        getattr(slicer.app, name)


def test_unknown_modules():
    with pytest.raises(AttributeError):
        _ = slicer.modules.dicom


def test_node_types_that_a_selector_does_not_hold():
    selector = slicer.qMRMLCheckableNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.setMRMLScene(slicer.mrmlScene)
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    selector.setCheckState(labels, qt.Qt.Checked)
    assert selector.checkState(labels) == qt.Qt.Unchecked


@pytest.mark.parametrize("signature", ["cliked()", "clicked(int)", "currentIndexChanged(QString)"])
def test_unknown_signals(signature):
    with pytest.raises(ValueError, match="no signal"):
        qt.QPushButton().connect(signature, print)


def test_unknown_widget_classes_and_properties_in_a_form():
    with pytest.raises(ValueError, match="qMRMLSliderWidget"):
        load_form("qMRMLSliderWidget")
    with pytest.raises(ValueError, match="no property 'paht'"):
        load_form("ctkPathLineEdit", '<property name="paht"><string>a</string></property>')


@pytest.mark.parametrize(
    "connection",
    [
        ("Form", "mrmlSceneChanged(vtkMRMLScene*)", "nobody", "setMRMLScene(vtkMRMLScene*)"),
        ("Form", "mrmlSceneChangd(vtkMRMLScene*)", "child", "setMRMLScene(vtkMRMLScene*)"),
        ("Form", "mrmlSceneChanged(vtkMRMLScene*)", "child", "setScene(vtkMRMLScene*)"),
    ],
)
def test_connections_of_a_form_that_lead_nowhere(connection):
    with pytest.raises((ValueError, AttributeError)):
        load_form("qMRMLTableView", connections=CONNECTION.format(*connection))


def test_connections_of_a_form_are_made():
    made = CONNECTION.format("Form", "mrmlSceneChanged(vtkMRMLScene*)", "child", "setMRMLScene(vtkMRMLScene*)")
    form = load_form("qMRMLTableView", connections=made)
    form.setMRMLScene(slicer.mrmlScene)
    assert slicer.util.findChild(form, "child").mrmlScene() is slicer.mrmlScene


def wrapped(annotation, **default):
    return parameterNodeWrapper(type("P", (), {"__annotations__": {"a": annotation}, **default}))


def test_types_that_the_wrapper_does_not_know():
    for annotation in (bytes, dict[str, int], Annotated[int, "unit"]):
        with pytest.raises(TypeError):
            wrapped(annotation)


def test_values_that_do_not_fit(parameter_node):
    parameters = wrapped(Annotated[str, Choice(["x", "y"])], a="x")(parameter_node)
    with pytest.raises(ValueError, match="not one of"):
        parameters.a = "z"
    with pytest.raises(TypeError):
        wrapped(int, a=1)(parameter_node).a = "1"
    with pytest.raises(ValueError, match="not within"):
        wrapped(Annotated[int, WithinRange(1, 3)])(slicer.vtkMRMLScriptedModuleNode())


def test_file_types_that_are_not_loaded_or_saved(tmp_path):
    with pytest.raises(NotImplementedError):
        slicer.util.loadSegmentation(str(tmp_path / "a.seg.nrrd"))
    with pytest.raises(NotImplementedError):
        slicer.util.saveScene(str(tmp_path / "a.mrml"))


def test_exceptions_in_slots_and_observers_reach_the_hook(monkeypatch):
    import sys

    caught = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: caught.append(kind))
    button, node = qt.QPushButton(), slicer.vtkMRMLScriptedModuleNode()
    button.connect("clicked()", lambda: 1 / 0)
    tag = node.AddObserver("ModifiedEvent", lambda *_: {}["a"])
    button.click()
    node.Modified()
    node.RemoveObserver(tag)
    assert caught == [ZeroDivisionError, KeyError]
