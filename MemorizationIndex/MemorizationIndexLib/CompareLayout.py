"""The two-column layout of the comparison, with slice views of its own, so that the user's stay as they are."""

import slicer

#: The layout's number; Slicer's own are small.
LAYOUT = 26213
QUERY, TRAINING = "MemorizationIndexSynthetic", "MemorizationIndexTraining"
_VIEW_GROUP = 26213  # views of a group are linked and jump together; the user's other views do not
_VIEW = """<item><view class="vtkMRMLSliceNode" singletontag="{tag}">
<property name="orientation" action="default">Axial</property>
<property name="viewlabel" action="default">{label}</property>
<property name="viewcolor" action="default">{color}</property>
<property name="viewgroup" action="default">{group}</property></view></item>"""
_DESCRIPTION = '<layout type="horizontal" split="true">{views}</layout>'


class CompareLayout:
    """Enters the layout and gives back the one before."""

    def __init__(self):
        self._previous = None

    @property
    def isShown(self):
        """Whether the two views are shown now."""
        return self._previous is not None and slicer.app.layoutManager().layout == LAYOUT

    def enter(self):
        """Show the two views."""
        manager = slicer.app.layoutManager()
        node = manager.layoutLogic().GetLayoutNode()
        if not node.IsLayoutDescription(LAYOUT):
            views = ((QUERY, "S", "#D55E00"), (TRAINING, "T", "#0072B2"))
            items = [_VIEW.format(tag=tag, label=label, color=color, group=_VIEW_GROUP) for tag, label, color in views]
            node.AddLayoutDescription(LAYOUT, _DESCRIPTION.format(views="".join(items)))
        if manager.layout != LAYOUT:
            self._previous = manager.layout
            manager.setLayout(LAYOUT)
        # A scene that is saved meanwhile must not ask for a layout that another Slicer does not know.
        for temporary in (node, *self._nodes()):
            temporary.SetSaveWithScene(False)

    def leave(self):
        """Show the layout from before, unless the user chose another one meanwhile; remove the two views."""
        if self._previous is None:
            return
        manager, previous = slicer.app.layoutManager(), self._previous
        self._previous = None
        if manager.layout == LAYOUT:
            manager.setLayout(previous)
        manager.layoutLogic().GetLayoutNode().SetSaveWithScene(True)
        for node in self._nodes():
            if slicer.mrmlScene.IsNodePresent(node):
                slicer.mrmlScene.RemoveNode(node)

    def _nodes(self):
        """The nodes of the two views."""
        logics = [widget.sliceLogic() for widget in map(self.widget, (QUERY, TRAINING)) if widget is not None]
        return [node for logic in logics for node in (logic.GetSliceNode(), logic.GetSliceCompositeNode())]

    def widget(self, name):
        """The slice widget of ``QUERY`` or ``TRAINING``."""
        return slicer.app.layoutManager().sliceWidget(name)
