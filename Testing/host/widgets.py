"""Stand-ins for the CTK and qMRML widgets that the panel uses: real Qt widgets with those widgets' documented faces.

They know only what is written here. Reading or setting anything else is an error, as are node types they do not hold.
"""

import weakref

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets


class Strict:
    """Setting an attribute that the class does not declare is an error (PySide6 alone would accept it silently)."""

    beingLoaded = False  # PySide6's form loader makes every child an attribute of the form; Slicer's does not

    def __setattr__(self, name, value):
        if Strict.beingLoaded and isinstance(value, QtCore.QObject) and not name.startswith("_"):
            return
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no property {name!r}")
        super().__setattr__(name, value)


def _stored(kind, name, default):
    """A Qt property that is only remembered: the host has no use for it, Slicer has."""
    slot = f"_{name}"
    return QtCore.Property(kind, lambda self: getattr(self, slot, default), lambda self, v: setattr(self, slot, v))


def refreshAt(subject, event, widget, priority=0.0):
    """Refresh a widget at a VTK event.

    The observer must not hold the widget, which holds the subject: VTK's Python wrapping clears an observer in such a
    circle once nothing else in Python holds the subject, and calls it all the same while the subject is in the scene.
    """
    reference = weakref.ref(widget)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def refresh(_caller, _event, node=None):
        target = reference()
        if target is not None and shiboken6.isValid(target) and getattr(target, "_concerns", _always)(node):
            target._refresh()

    return subject.AddObserver(event, refresh, priority)


def _always(_node):
    return True


# --- CTK -------------------------------------------------------------------------------------------------------------


class ctkCollapsibleButton(Strict, QtWidgets.QWidget):
    """A titled container; ``collapsed`` hides its content, a click on the title toggles it."""

    contentsCollapsed = QtCore.Signal(bool)
    _TITLE = 24

    def __init__(self, parent=None):
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, self._TITLE, 0, 0)

    def _set_text(self, text):
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed):
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setMaximumHeight(self._TITLE if collapsed else 16777215)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not collapsed)
        self.contentsCollapsed.emit(collapsed)

    text = QtCore.Property(str, lambda self: self._text, _set_text)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)

    def mousePressEvent(self, event):
        if event.position().y() < self._TITLE:
            self._set_collapsed(not self._collapsed)

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, self.width, self._TITLE - 4)
        painter.fillRect(bar, self.palette.color(QtGui.QPalette.ColorRole.Midlight).darker(112))
        title = f"{'▸' if self._collapsed else '▾'}  {self._text}"
        painter.drawText(bar.adjusted(6, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, title)
        painter.end()


class ctkPathLineEdit(Strict, QtWidgets.QWidget):
    """A path in a line edit."""

    currentPathChanged = QtCore.Signal(str)
    filters = None  # Dirs, Files, …: what the browse dialog offers, given in the .ui file

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit)
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = QtCore.Property(str, lambda self: self._edit.text, lambda self, path: self._edit.setText(path))
    settingKey = _stored(str, "settingKey", "")
    showHistoryButton = _stored(bool, "showHistoryButton", True)


# --- qMRML -----------------------------------------------------------------------------------------------------------


class qMRMLWidget(Strict, QtWidgets.QWidget):
    """A widget that hands its scene on to the widgets that the .ui file connects to ``mrmlSceneChanged``."""

    mrmlSceneChanged = QtCore.Signal(object)
    mrmlSignals = frozenset({("mrmlSceneChanged", "vtkMRMLScene*")})

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class SceneSelector(Strict):
    """What selectors of things in a scene share: they are refreshed at the scene's ``EVENTS``."""

    EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent")

    def _concerns(self, _node):
        """Whether a node that comes or goes (None: the scene itself) can change what is shown."""
        return True

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if self._scene:
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
        self._scene = scene
        events = [getattr(scene, name) for name in self.EVENTS] if scene else ()
        self._tags = [refreshAt(scene, event, self) for event in events]
        self._refresh()


class _Filter:
    """The part of qMRMLSortFilterProxyModel that leaves nodes out by their IDs."""

    __slots__ = ("_hidden", "_onChanged")

    def __init__(self, onChanged):
        self._hidden, self._onChanged = (), onChanged

    @property
    def hiddenNodeIDs(self):
        return self._hidden

    @hiddenNodeIDs.setter
    def hiddenNodeIDs(self, identifiers):
        self._hidden = tuple(identifiers)
        self._onChanged()


class qMRMLCheckableNodeComboBox(SceneSelector, QtWidgets.QWidget):
    """The scene's nodes of the given types, each with a check box."""

    checkedNodesChanged = QtCore.Signal()
    nodeTypes = _stored("QStringList", "nodeTypes", [])
    showChildNodeTypes = _stored(bool, "showChildNodeTypes", True)
    showHidden = _stored(bool, "showHidden", False)
    noneEnabled = _stored(bool, "noneEnabled", False)
    addEnabled = _stored(bool, "addEnabled", True)
    removeEnabled = _stored(bool, "removeEnabled", True)
    renameEnabled = _stored(bool, "renameEnabled", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._tags = None, []
        self._list = QtWidgets.QListWidget(self)
        self._list.setMaximumHeight(96)  # Slicer's drops down
        self._nodes, self._rows, self._shown = [], {}, []
        self._filter = _Filter(self._refresh)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list)
        self._list.itemChanged.connect(lambda _item: self.checkedNodesChanged.emit())

    def sortFilterProxyModel(self):
        return self._filter

    def nodeCount(self):
        return len(self._nodes)

    def checkState(self, node):
        unchecked = QtCore.Qt.CheckState.Unchecked
        return self._list.item(self._rows[node]).checkState() if node in self._rows else unchecked

    def setCheckState(self, node, state):
        if node in self._rows:
            self._list.item(self._rows[node]).setCheckState(state)

    def _concerns(self, node):
        if node is None or node in self._rows:
            return True
        return any(node.IsA(kind) for kind in self.nodeTypes) and (self.showHidden or not node.GetHideFromEditors())

    def _offered(self):
        """The scene's nodes that the selector shows."""
        if not self._scene:
            return []
        found = [node for kind in self.nodeTypes for node in slicer.util.getNodesByClass(kind, self._scene)]
        if not self.showHidden:
            found = [node for node in found if not node.GetHideFromEditors()]
        found = [node for node in found if node.GetID() not in self._filter.hiddenNodeIDs]
        return [node for node in found if self.showChildNodeTypes or node.GetClassName() in self.nodeTypes]

    def _refresh(self):
        nodes = self._offered()
        shown = [(node, node.GetName()) for node in nodes]
        if shown == self._shown:
            return
        checked = {node.GetID() for node in self._nodes if self.checkState(node) == QtCore.Qt.CheckState.Checked}
        blocked = self._list.blockSignals(True)
        kept = len(self._shown) if shown[: len(self._shown)] == self._shown else 0  # a new node is the last
        if not kept:
            self._list.clear()
        self._nodes, self._rows, self._shown = nodes, {node: row for row, node in enumerate(nodes)}, shown
        for node in nodes[kept:]:
            item = QtWidgets.QListWidgetItem(node.GetName(), self._list)
            state = QtCore.Qt.CheckState.Checked if node.GetID() in checked else QtCore.Qt.CheckState.Unchecked
            item.setCheckState(state)
        self._list.blockSignals(blocked)


class qMRMLSubjectHierarchyComboBox(SceneSelector, QtWidgets.QComboBox):
    """Items of the scene's subject hierarchy, one of which can be current."""

    EVENTS = (*SceneSelector.EVENTS, "EndImportEvent")
    currentItemChanged = QtCore.Signal(object)
    mrmlSignals = frozenset({("currentItemChanged", "vtkIdType")})
    noneEnabled = _stored(bool, "noneEnabled", False)
    noneDisplay = _stored(str, "noneDisplay", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._tags, self._items, self._current = None, [], [], 0
        self.connect("currentIndexChanged(int)", self._onIndex)

    def currentItem(self):
        return self._current

    def setCurrentItem(self, item):
        self._refresh()
        self.setCurrentIndex(self._items.index(item))

    def _onIndex(self, index):
        item = self._items[index] if 0 <= index < len(self._items) else 0
        if item != self._current:
            self._current = item
            self.currentItemChanged.emit(item)

    def _refresh(self):
        if self._scene and self._scene.IsBatchProcessing():
            return  # as in Slicer: asked while a scene closes, MRML makes a second hierarchy that cannot be merged
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene) if self._scene else None
        found = vtk.vtkIdList()
        if hierarchy is not None:
            hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found, True)
        blocked = self.blockSignals(True)
        self.clear()
        self._items = [0, *(found.GetId(i) for i in range(found.GetNumberOfIds()))]
        self.addItems([self.noneDisplay, *(hierarchy.GetItemName(item) for item in self._items[1:])])
        self.setCurrentIndex(self._items.index(self._current) if self._current in self._items else 0)
        self.blockSignals(blocked)
        self._onIndex(self.currentIndex)


class qMRMLTableView(Strict, QtWidgets.QTableView):
    """A table node as a spreadsheet. As in Slicer, names of columns are in the first row unless the node says not."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._node, self._tag = None, None, None
        self.setModel(QtGui.QStandardItemModel(self))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene
        if self._node and (scene is None or not scene.IsNodePresent(self._node)):
            self.setMRMLTableNode(None)

    def mrmlTableNode(self):
        return self._node

    def setMRMLTableNode(self, node):
        if self._node:
            self._node.RemoveObserver(self._tag)
        self._node = node
        self._tag = refreshAt(node, "ModifiedEvent", self) if node else None
        self._refresh()

    def _refresh(self):
        model, table = self.model(), self._node.GetTable() if self._node else None
        model.clear()
        if table is None or not table.GetNumberOfColumns():
            return
        columns = range(table.GetNumberOfColumns())
        names = [table.GetColumnName(column) for column in columns]
        if self._node.GetUseColumnTitleAsColumnHeader():
            model.setHorizontalHeaderLabels(names)
        else:
            model.appendRow([QtGui.QStandardItem(name) for name in names])
        for row in range(table.GetNumberOfRows()):
            items = [QtGui.QStandardItem(table.GetValue(row, column).ToString()) for column in columns]
            for item in items:
                item.setEditable(not self._node.GetLocked())
            model.appendRow(items)


CTK = (ctkCollapsibleButton, ctkPathLineEdit)
QMRML = (qMRMLWidget, qMRMLCheckableNodeComboBox, qMRMLSubjectHierarchyComboBox, qMRMLTableView)
