"""The checked nodes of a selector."""

import qt
import slicer

from .Loading import LOADED_ATTRIBUTE


class CheckedVolumes:
    """Volumes that are checked in ``selector``; ``onChanged()`` when the user checks one.

    Volumes that were loaded only to be looked at are not offered.
    (The selector's own list of nodes does not reach Python in every Slicer.)
    """

    def __init__(self, selector, onChanged):
        self._selector, self._onChanged, self._setting = selector, onChanged, False
        self._identifiers = []  # of the checked nodes: of 500 nodes the selector takes long to tell
        selector.connect("checkedNodesChanged()", self._onCheckedNodesChanged)

    def nodes(self):
        """The checked nodes."""
        nodes = (slicer.mrmlScene.GetNodeByID(identifier) for identifier in self._identifiers)
        return [node for node in nodes if node is not None]

    def check(self, nodes):
        """Check exactly ``nodes`` (those deleted since are None), without telling."""
        wanted = {node.GetID() for node in nodes if node is not None}
        self._setting = True
        self._hideLoaded()
        for node in _volumes():
            state = qt.Qt.Checked if node.GetID() in wanted else qt.Qt.Unchecked
            if self._selector.checkState(node) != state:
                self._selector.setCheckState(node, state)
        self._setting = False
        self._identifiers = [node.GetID() for node in _volumes() if node.GetID() in wanted and self._isChecked(node)]

    def _hideLoaded(self):
        hidden = tuple(node.GetID() for node in _volumes() if node.GetAttribute(LOADED_ATTRIBUTE))
        model = self._selector.sortFilterProxyModel()
        if tuple(model.hiddenNodeIDs) != hidden:
            model.hiddenNodeIDs = list(hidden)

    def _isChecked(self, node):
        return self._selector.checkState(node) == qt.Qt.Checked

    def _onCheckedNodesChanged(self):
        if not self._setting:
            self._identifiers = [node.GetID() for node in _volumes() if self._isChecked(node)]
            self._onChanged()


def _volumes():
    return slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
