"""The stand-in of the layout manager: Slicer's names, Slicer's pictures, and nothing that a view leaves behind."""

import numpy as np
import pytest
import slicer
import vtk
from testsupport import addVolume, texture

LAYOUT = """<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="HostTest">
<property name="orientation" action="default">Coronal</property></view></item></layout>"""


@pytest.fixture
def manager():
    slicer.mrmlScene.Clear(0)
    manager = slicer.app.layoutManager()
    layout = manager.layout
    yield manager
    manager.layout = layout


def picture(view):
    """RGB pixels (rows, columns, 3), the top row first."""
    view.forceRender()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(view.renderWindow())
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1]


@pytest.mark.parametrize("name", ["sliceViews", "threeDWidget", "mrmlViewportFactories"])
def test_unknown_names_are_refused(manager, name):
    with pytest.raises(AttributeError):
        getattr(manager, name)
    with pytest.raises(AttributeError):
        getattr(manager.sliceWidget("Red").sliceView(), name)


def test_a_view_shows_the_slice(manager):
    array = np.zeros((5, 40, 40), np.uint8)
    array[2, 20:, 20:] = 255  # posterior and left of the center: below and on the right
    node = addVolume(array, "v", np.diag([-1, -1, 1, 1]))
    widget = manager.sliceWidget("Red")
    widget.sliceLogic().GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
    widget.sliceLogic().FitSliceToBackground()
    widget.sliceLogic().SetSliceOffset(2)
    shown = picture(widget.sliceView())
    assert shown[300, 300].min() > 200
    assert shown[100, 300].max() < 20
    widget.sliceLogic().SetSliceOffset(4)
    assert picture(widget.sliceView())[300, 300].max() < 20


def test_a_layout_of_our_own_comes_and_goes(manager):
    before = slicer.mrmlScene.GetNumberOfNodes()
    logics = manager.mrmlSliceLogics().GetNumberOfItems()
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(987, LAYOUT)
    usual = manager.layout
    seen = []
    manager.connect("layoutChanged(int)", seen.append)
    manager.setLayout(987)
    assert "HostTest" in manager.sliceViewNames()
    widget = manager.sliceWidget("HostTest")
    assert widget.mrmlSliceNode().GetOrientation() == "Coronal"
    composite = widget.sliceLogic().GetSliceCompositeNode()
    manager.setLayout(usual)
    slicer.mrmlScene.RemoveNode(widget.mrmlSliceNode())
    slicer.mrmlScene.RemoveNode(composite)
    assert manager.sliceWidget("HostTest") is None
    assert seen == [987, usual]
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert manager.mrmlSliceLogics().GetNumberOfItems() == logics
    manager.disconnect("layoutChanged(int)", seen.append)


def test_views_survive_the_scene(manager):
    names = manager.sliceViewNames()
    node = addVolume(texture(0, (5, 20, 20)), "v")
    manager.sliceWidget(names[0]).sliceLogic().GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
    slicer.mrmlScene.Clear(0)
    assert manager.sliceViewNames() == names
    assert picture(manager.sliceWidget(names[0]).sliceView()).max() < 20
