"""The two views of one comparison: what they show, and how they stay together."""

import numpy as np
import slicer
from memorization_index.comparison import IntensityMap
from slicer.i18n import tr as _

from .AnnotationText import AnnotationText, transformText
from .DisplayCopy import DisplayCopy
from .Link import Link
from .LinkedViews import LinkedViews
from .TrainingPicture import TrainingPicture
from .WindowLevelLink import WindowLevelLink

_NOTE_PLACE = 40, 90  # pixels from the lower left corner, clear of the band and of Slicer's own texts


class Comparison:
    """A scored volume in the left one of two slice views, its training volume on the right, laid on it by the match.

    Both views show the same plane of the scored volume's space: the copy of the training volume is moved, so that
    place, crosshair and zoom of both views mean the same. ``reason``: why there is no training volume.
    """

    def __init__(self, results, volumeNode, trainingNode, match, widgets, reason=""):
        self.volumeNode, self.trainingNode = volumeNode, trainingNode
        self._logics = [widget.sliceLogic() for widget in widgets]
        self._views = [widget.sliceView() for widget in widgets]
        self.link = Link(results, volumeNode, trainingNode, match)
        self.number, self.onSlice = None, lambda: None
        self.copy = self.intensities = self._windows = self._picture = None
        left, right = (view.renderWindow().GetRenderers().GetFirstRenderer() for view in self._views)
        self.text, self._note = AnnotationText(right), AnnotationText(left, atTop=False)
        if trainingNode is None:
            self._picture = TrainingPicture(results, self.link, reason)
        else:
            self._copyTraining()
        self._fill()
        first, second = (logic.GetSliceNode() for logic in self._logics)
        self._linked = LinkedViews(first, second, self._onMoved)
        self.note("")

    @property
    def missing(self):
        """What is missing, in a sentence; empty if nothing is."""
        return "" if self._picture is None else self._picture.describe(self.number)

    @property
    def matchWindowLevel(self):
        """Whether the windows follow each other."""
        return self._windows is not None and self._windows.enabled

    @matchWindowLevel.setter
    def matchWindowLevel(self, match):
        if self._windows is not None:
            self._windows.enabled = match

    def start(self, number=None):
        """Show slice ``number``, or the one whose match is best, straight and whole."""
        slices = self.link.scored.slices
        number = self._best() if number is None else number
        right, down, step = (vector / np.linalg.norm(vector) for vector in (slices.columns, slices.rows, slices.step))
        matrix = np.eye(4)
        matrix[:3] = np.column_stack([right, -down, step, slices.center(number)])
        node = self._logics[0].GetSliceNode()
        with slicer.util.NodeModify(node):
            node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
            node.UpdateMatrices()
        self._logics[0].FitSliceToBackground()
        self.jump(number)
        self._onMoved()

    def jump(self, number):
        """Move both views to a slice of the scored volume."""
        self.link.scored.jump(self._logics[0].GetSliceNode(), number)

    def note(self, text):
        """Say in the left view what it shows of the two volumes; if empty, which volume it is."""
        self._note.show(text or self.volumeNode.GetName(), *_NOTE_PLACE)
        self._views[0].scheduleRender()

    def needs(self, node):
        """Whether the comparison ends when this node goes."""
        own = [self.volumeNode, self.trainingNode, *(logic.GetSliceNode() for logic in self._logics)]
        return any(node is one for one in own if one is not None)

    def cleanup(self):
        """Empty the views and remove what was made for them."""
        self._linked.cleanup()
        for text in (self.text, self._note):
            text.show("")
        for logic in self._logics:
            composite = logic.GetSliceCompositeNode()
            if composite is not None:
                composite.SetBackgroundVolumeID(None)
        for part in (self._windows, self.copy, self._picture):
            if part is not None:
                part.cleanup()

    def _copyTraining(self):
        self.copy = DisplayCopy(self.trainingNode)
        arrays = (slicer.util.arrayFromVolume(node) for node in (self.trainingNode, self.volumeNode))
        self.intensities = IntensityMap.between(*arrays)
        self._windows = WindowLevelLink(self.volumeNode.GetDisplayNode(), self.copy.display, self.intensities)

    def _fill(self):
        shown = self.copy.node if self.copy is not None else self._picture.node
        for logic, node in zip(self._logics, (self.volumeNode, shown), strict=True):
            composite = logic.GetSliceCompositeNode()
            composite.SetLinkedControl(False)  # the views are linked here
            composite.SetBackgroundVolumeID(node.GetID())

    def _best(self):
        """The slice that shows most: one with a verified alignment (or a picture), of the highest NCC."""
        rows, known = self.link.scored.rows, self.link.alignments
        if self._picture is not None and self._picture.numbers:
            known = self._picture.numbers
        candidates = [number for number in rows if number in known] or list(rows)
        return max(candidates, key=lambda number: np.nan_to_num(rows[number]["ncc"], nan=-1.0))

    def _onMoved(self):
        number = self.link.sliceOf(self._logics[0].GetSliceNode())
        if number != self.number:
            self.number = number
            if self.copy is not None:
                self.copy.place(self.link.toTraining(number))
            else:
                self._picture.show(number)
            self.onSlice()
        self.text.show(self._describe(number))
        for view in self._views:
            view.scheduleRender()

    def _describe(self, number):
        if self.missing:
            return self.missing
        parts = [self.link.matchName, _("slice {number}").format(number=self.link.matchedSlice(number))]
        row = self.link.scored.rows.get(number)
        if self.link.isVerified(number):
            parts.append(transformText(row["transform"]))
        else:
            parts.append(_("no verified match here; placed as the nearest one"))
        return " · ".join(parts)
