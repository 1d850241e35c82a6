"""The heat map: local agreement of a scored volume with what it matches, as foreground of slice views."""

import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from .Palette import agreementTable
from .Steps import Steps
from .Temporary import hide, temporaryNode

#: Role of the node reference from a scored volume to its heat map.
AGREEMENT_ROLE = "MemorizationIndex.Agreement"
#: Attribute of a slice composite node whose foreground layer belongs to another display of ours.
FOREGROUND_ATTRIBUTE = "MemorizationIndex.Foreground"
#: Agreement (%) from which on the map is shown.
LOWEST = 50
_OPACITY = 0.45
# Voxels; what has more is not read in one go (4 million bytes take about 10 ms).
_LARGE = 8_000_000
_LEGEND_SIZE = 0.05, 0.2  # of the view's width and height


class HeatMap:
    """Makes the heat maps of the volumes that are shown, puts them into views, and gives the user's layers back.

    Heat maps are temporary: they are made from the result that the scene holds and are not saved with it. That of a
    large volume is read while the application goes on; ``onReady()`` is called when it can be shown.
    """

    def __init__(self, results, onReady):
        self._results, self._onReady = results, onReady
        self.enabled = True  # whether views are given heat maps; takes effect when they are shown anew
        self._reading = {}  # scored volume's ID: the steps of reading its heat map
        self._nodes = {}  # scored volume's ID: the temporary nodes of its heat map, the volume first; [] without one
        self._colors = None
        self._layers = {}  # slice composite node: the user's foreground and its opacity

    def show(self, compositeNode, volumeNode):
        """Make the heat map of a volume the foreground of a view that shows the volume, where it has one."""
        wanted = self.enabled and not compositeNode.GetAttribute(FOREGROUND_ATTRIBUTE)
        node = self._node(volumeNode) if wanted else None
        if node is None:
            self.hide(compositeNode)
            return
        _follow(node, volumeNode)
        current = compositeNode.GetForegroundVolumeID()
        if current == node.GetID():
            return
        if compositeNode in self._layers and not self._isOurs(current):
            return  # the user chose another foreground meanwhile
        if compositeNode not in self._layers:
            self._layers[compositeNode] = current, compositeNode.GetForegroundOpacity()
            self._renewLegend(volumeNode)
        _setForeground(compositeNode, node.GetID(), _OPACITY)
        _updateLegend(node)

    def hide(self, compositeNode):
        """Give a view back the foreground that it had before."""
        if compositeNode not in self._layers:
            return
        foreground, opacity = self._layers.pop(compositeNode)
        if self._isOurs(compositeNode.GetForegroundVolumeID()):
            present = foreground and slicer.mrmlScene.GetNodeByID(foreground)
            node = slicer.mrmlScene.GetNodeByID(compositeNode.GetForegroundVolumeID())
            _setForeground(compositeNode, foreground if present else None, opacity)
            _updateLegend(node)

    def keepOnly(self, volumeNodes):
        """Remove the heat maps of all other volumes."""
        kept = {node.GetID() for node in volumeNodes}
        for identifier in [identifier for identifier in self._nodes if identifier not in kept]:
            self._remove(identifier)

    def forget(self, volumeNode):
        """Remove the heat map of a volume."""
        if volumeNode.GetID() in self._nodes:
            self._remove(volumeNode.GetID())

    def cleanup(self):
        """Give all views their foreground back and remove every node."""
        for compositeNode in list(self._layers):
            self.hide(compositeNode)
        for identifier in list(self._nodes):
            self._remove(identifier)
        if self._colors is not None:
            slicer.mrmlScene.RemoveNode(self._colors)
            self._colors = None

    def _isOurs(self, identifier):
        return any(nodes and nodes[0].GetID() == identifier for nodes in self._nodes.values())

    def _node(self, volumeNode):
        identifier = volumeNode.GetID()
        if identifier not in self._nodes:
            self._nodes[identifier] = []
            if volumeNode.GetImageData().GetNumberOfPoints() > _LARGE:
                self._start(volumeNode)
            else:
                self._keep(volumeNode, self._results.agreementOf(volumeNode))
        return self._nodes[identifier][0] if self._nodes[identifier] else None

    def _start(self, volumeNode):
        def onRead(array, error):
            del self._reading[volumeNode.GetID()]
            if error is not None:
                raise error
            self._keep(volumeNode, array)
            self._onReady()

        steps = self._reading[volumeNode.GetID()] = Steps(self._results.readingAgreement(volumeNode), onRead)
        steps.start()

    def _keep(self, volumeNode, array):
        if array is not None:
            self._nodes[volumeNode.GetID()] = self._make(volumeNode, array)

    def _make(self, volumeNode, array):
        if self._colors is None:
            self._colors = agreementTable()
        name = _("{volume} agreement").format(volume=volumeNode.GetName())
        node = temporaryNode("vtkMRMLScalarVolumeNode", name)
        display = temporaryNode("vtkMRMLScalarVolumeDisplayNode", name)
        display.SetAutoWindowLevel(False)  # before there are voxels, of which it would look at every one
        display.SetWindowLevelMinMax(LOWEST, 100)
        display.SetThreshold(LOWEST, 100)
        display.SetApplyThreshold(True)
        display.SetAndObserveColorNodeID(self._colors.GetID())
        node.SetAndObserveDisplayNodeID(display.GetID())
        node.SetAndObserveImageData(_image(array))
        volumeNode.SetNodeReferenceID(AGREEMENT_ROLE, node.GetID())
        return [node, display, _legend(node)]

    def _renewLegend(self, volumeNode):
        """Make the legend anew: a view that was made after it does not know it."""
        nodes = self._nodes[volumeNode.GetID()]
        slicer.mrmlScene.RemoveNode(nodes[-1])
        nodes[-1] = _legend(nodes[0])

    def _remove(self, identifier):
        nodes = self._nodes[identifier]
        for compositeNode in list(self._layers):  # a view that still shows it would stay without a heat map
            if nodes and compositeNode.GetForegroundVolumeID() == nodes[0].GetID():
                self.hide(compositeNode)
        del self._nodes[identifier]
        if identifier in self._reading:
            self._reading.pop(identifier).stop()
        volumeNode = slicer.mrmlScene.GetNodeByID(identifier)
        if volumeNode is not None:
            volumeNode.RemoveNodeReferenceIDs(AGREEMENT_ROLE)
        for node in nodes:
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)


def _image(array):
    """An image of voxels (K, J, I), which are not copied."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(array.shape))
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel(), deep=False))
    return image


def _legend(node):
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(_("Agreement %"))
    legend.SetLabelFormat("%.0f")
    legend.SetNumberOfLabels(3)
    legend.GetLabelTextProperty().SetFontFamilyToArial()
    legend.SetSize(*_LEGEND_SIZE)
    hide(legend)
    return legend


def _follow(node, volumeNode):
    """Put a heat map where its volume is."""
    node.CopyOrientation(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())


def _updateLegend(node):
    """The legend is drawn where its volume is shown; nothing else tells it that this has changed."""
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
    if legend is not None:  # the change of layers may have brought an update that removed it
        legend.Modified()


def _setForeground(compositeNode, identifier, opacity):
    with slicer.util.NodeModify(compositeNode):
        compositeNode.SetForegroundVolumeID(identifier)
        compositeNode.SetForegroundOpacity(opacity)
