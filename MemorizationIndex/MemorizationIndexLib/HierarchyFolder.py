"""A folder of the subject hierarchy whose volumes are examined."""

import slicer
import vtk

# Numbers of items change when a scene is opened; an attribute of the item does not.
_CHOSEN = "MemorizationIndex.Examine"


class HierarchyFolder:
    """The folder chosen in ``selector`` (a subject hierarchy combo box), remembered in the scene."""

    def __init__(self, selector, onChanged):
        self._selector, self._onChanged, self._setting = selector, onChanged, False
        selector.connect("currentItemChanged(vtkIdType)", self._onCurrentItemChanged)

    def nodes(self):
        """All scalar volumes below the chosen folder."""
        item, found = _chosenItem(), vtk.vtkCollection()
        if item:
            _hierarchy().GetDataNodesInBranch(item, found, "vtkMRMLScalarVolumeNode")
        nodes = [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]
        return [node for node in nodes if node.GetClassName() == "vtkMRMLScalarVolumeNode"]

    def update(self):
        """Show the folder that the scene remembers."""
        item = _chosenItem()
        if item and self._selector.currentItem() != item:
            self._setting = True
            self._selector.setCurrentItem(item)
            self._setting = False

    def _onCurrentItemChanged(self, item):
        if self._setting:
            return
        hierarchy, earlier = _hierarchy(), _chosenItem()
        if earlier:
            hierarchy.RemoveItemAttribute(earlier, _CHOSEN)
        if item:
            hierarchy.SetItemAttribute(item, _CHOSEN, "1")
        self._onChanged()


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _chosenItem():
    """The item that is marked as chosen, or 0."""
    hierarchy, items = _hierarchy(), vtk.vtkIdList()
    if hierarchy is None:
        return 0
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    numbers = (items.GetId(i) for i in range(items.GetNumberOfIds()))
    return next((item for item in numbers if hierarchy.HasItemAttribute(item, _CHOSEN)), 0)
