"""``slicer.app.layoutManager()``: slice views of the current layout, drawn offscreen by Slicer's displayable managers.

Stands in for qSlicerLayoutManager, qMRMLSliceWidget and qMRMLSliceView. Layouts are Slicer's own nodes and logic:
a view exists while its node does, and is shown while the layout shows it. Views of other kinds are not made.
"""

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .widgets import Strict, refreshAt

_SIZE = (400, 400)  # a view's size until it is resized
_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)


def _factory():
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for name in _MANAGERS:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    return factory


class qMRMLSliceView(Strict, QtWidgets.QWidget):
    """The picture of a slice: a render window that is drawn offscreen and painted into the widget."""

    def __init__(self, logic, parent=None):
        super().__init__(parent)
        self._logic = logic
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetNumberOfLayers(2)
        self._window.SetMultiSamples(0)  # the same pixels everywhere
        self._renderers = [vtk.vtkRenderer(), vtk.vtkRenderer()]
        for layer, renderer in enumerate(self._renderers):
            renderer.SetLayer(layer)
            renderer.GetActiveCamera().ParallelProjectionOn()
            self._window.AddRenderer(renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._interactor.Initialize()
        self._annotation = vtk.vtkCornerAnnotation()
        self._renderers[0].AddViewProp(self._annotation)
        self._addPicture()
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(_factory(), self._renderers[0])
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(logic)
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self._interactor)
        self._managers.SetMRMLDisplayableNode(logic.GetSliceNode())
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.forceRender)
        self._tags = [
            (self._managers, refreshAt(self._managers, "ModifiedEvent", self)),
            (logic, refreshAt(logic, "ModifiedEvent", self)),
        ]
        self._resize(*_SIZE)

    def _addPicture(self):
        """What ctkVTKSliceView's light box does: the slice's picture behind everything else."""
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        picture = vtk.vtkActor2D()
        picture.SetMapper(self._mapper)
        picture.GetProperty().SetDisplayLocationToBackground()
        self._picture = picture
        self._renderers[0].AddViewProp(picture)

    def _resize(self, width, height):
        self._window.SetSize(width, height)
        self._interactor.SetSize(width, height)
        self._logic.ResizeSliceNode(width, height)

    def _refresh(self):
        port = self._logic.GetImageDataConnection()
        self._picture.SetVisibility(port is not None)
        self._mapper.SetInputConnection(port)
        self.scheduleRender()

    def renderWindow(self):
        return self._window

    def interactor(self):
        return self._interactor

    def interactorStyle(self):
        return self._style

    def cornerAnnotation(self):
        return self._annotation

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def scheduleRender(self):
        if not self._timer.isActive():
            self._timer.start(0)

    def forceRender(self):
        self._timer.stop()
        self._window.Render()
        self.update()

    def resizeEvent(self, event):
        self._resize(self.width, self.height)

    def wheelEvent(self, event):
        self._interactor.SetEventInformation(int(event.position().x()), self.height - int(event.position().y()))
        forward = event.angleDelta().y() > 0
        self._interactor.InvokeEvent("MouseWheelForwardEvent" if forward else "MouseWheelBackwardEvent")

    def paintEvent(self, event):
        image = self._image()
        painter = QtGui.QPainter(self)
        painter.drawImage(0, 0, image)
        painter.end()

    def _image(self):
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        pixels = grabber.GetOutput()
        width, height, _ = pixels.GetDimensions()
        buffer = bytes(memoryview(pixels.GetPointData().GetScalars()))
        image = QtGui.QImage(buffer, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
        return image.flipped(QtCore.Qt.Orientation.Vertical)

    def _release(self):
        """Let go of logics and graphics; VTK ends the process where they outlive their scene."""
        self._timer.stop()
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._style.SetInteractor(None)
        self._managers.SetMRMLDisplayableNode(None)
        self._style.SetSliceLogic(None)
        self._style.SetDisplayableManagers(None)
        self._mapper.SetInputConnection(None)
        self._window.Finalize()
        self._window.SetInteractor(None)
        self._interactor.SetRenderWindow(None)
        self._interactor.SetInteractorStyle(None)
        self._managers = self._style = self._interactor = self._window = self._mapper = self._picture = None
        self._annotation = self._logic = None
        self._renderers, self._tags = [], []


class qMRMLSliceWidget(Strict, QtWidgets.QWidget):
    """A slice view with its logic. (The bar above it is not made.)"""

    def __init__(self, node, parent=None):
        super().__init__(parent)
        self._logic = slicer.vtkMRMLSliceLogic()
        application = slicer.app.applicationLogic()
        self._logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSliceNode(node)
        self._view = qMRMLSliceView(self._logic, self)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)

    def sliceView(self):
        return self._view

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlScene(self):
        return self._logic.GetMRMLScene()

    def _release(self):
        self._view._release()
        self._logic.DeleteSliceModel()
        slicer.app.applicationLogic().GetSliceLogics().RemoveItem(self._logic)
        self._logic.SetMRMLScene(None)
        self._logic = self._view = None


class qSlicerLayoutManager(Strict, QtCore.QObject):
    """The views of the current layout."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self):
        super().__init__()
        self._viewport = QtWidgets.QWidget()
        QtWidgets.QHBoxLayout(self._viewport).setContentsMargins(0, 0, 0, 0)
        self._widgets = {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        node = self._logic.GetLayoutNode()
        node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._arrangement, self._refreshing = None, False
        refreshAt(node, "ModifiedEvent", self, priority=-1.0)  # after the logic, which makes the view nodes
        refreshAt(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self)
        self._refresh()

    def _setLayout(self, arrangement):
        self._logic.GetLayoutNode().SetViewArrangement(arrangement)

    layout = QtCore.Property(int, lambda self: self._logic.GetLayoutNode().GetViewArrangement(), _setLayout)

    def setLayout(self, arrangement):
        self._setLayout(arrangement)

    def layoutLogic(self):
        return self._logic

    def viewport(self):
        return self._viewport

    def mrmlScene(self):
        return self._logic.GetMRMLScene()

    def mrmlSliceLogics(self):
        return slicer.app.applicationLogic().GetSliceLogics()

    def sliceViewNames(self):
        """Names of all slice views that exist, also of those that this layout does not show."""
        return tuple(self._widgets)

    def sliceWidget(self, name):
        return self._widgets.get(name)

    def _refresh(self):
        if not self._refreshing:  # a new view adds nodes of its own to the scene
            self._refreshing = True
            self._update()
            self._refreshing = False
            self._tell()

    def _update(self):
        present = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
        for name in set(self._widgets) - set(present):
            widget = self._widgets.pop(name)
            widget._release()
            widget.setParent(None)
            shiboken6.delete(widget)  # deleteLater() waits for an event loop that tests do not run
        shown = self._logic.GetViewNodes()
        shown = [shown.GetItemAsObject(i) for i in range(shown.GetNumberOfItems())]
        for name, node in present.items():
            if name not in self._widgets and node in shown:
                self._widgets[name] = qMRMLSliceWidget(node)
                self._viewport.layout().addWidget(self._widgets[name])
            if name in self._widgets:
                self._widgets[name].setVisible(node in shown)

    def _tell(self):
        arrangement = self._logic.GetLayoutNode().GetViewArrangement()
        if arrangement != self._arrangement:
            self._arrangement = arrangement
            self.layoutChanged.emit(arrangement)

    def _release(self):
        for widget in self._widgets.values():
            widget._release()
        self._widgets = {}
        slicer.app.applicationLogic().GetSliceLogics().RemoveAllItems()
        self._logic.SetMRMLScene(None)
