"""Blink, checkerboard and difference: the foreground of the left view, one at a time."""

import numpy as np
import qt
import slicer
from memorization_index.comparison import aligned_slice, checkerboard
from slicer.i18n import tr as _

from .HeatMap import FOREGROUND_ATTRIBUTE
from .Observations import Observations
from .Palette import differenceTable
from .SlicePicture import SlicePicture

#: Names of the modes, the first one without a foreground.
MODES = ("side by side", "blink", "checkerboard", "difference")
_BLINK = 500  # milliseconds for each of the two pictures
_SEEN = 0.5  # % of the window's width: what differs less is as good as the same
_DIFFERENCE = 0.5  # of the window's width: the difference that has the strongest color


class Modes:
    """Shows the two volumes of a :class:`Comparison` in one view, whose foreground is its own meanwhile."""

    def __init__(self, comparison, compositeNode):
        self._comparison, self._composite = comparison, compositeNode
        self._mode, self._picture, self._observations = MODES[0], None, Observations()
        self._largest = 0.0  # difference within the slice that is shown
        self._timer = qt.QTimer()
        self._timer.setInterval(_BLINK)
        self._timer.connect("timeout()", self._onBlink)
        comparison.onSlice = self._draw

    @property
    def mode(self):
        """The mode that is on; one of ``MODES``."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        if mode != self._mode:
            self._clear()
            self._mode = mode
            self._enter()

    def cleanup(self):
        """Leave the mode and remove what it showed."""
        self._comparison.onSlice = lambda: None
        self._clear()
        self._timer.disconnect("timeout()", self._onBlink)

    def _enter(self):
        if self._mode == MODES[0]:
            return
        self._composite.SetAttribute(FOREGROUND_ATTRIBUTE, self._mode)  # the heat map makes way
        if self._mode == "blink":
            self._show(self._comparison.copy.node, 0.0)
            self._timer.start()
            self._tell()
            return
        self._picture = SlicePicture(_("MemorizationIndex comparison"))
        if self._mode == "difference":
            self._picture.setColors(differenceTable())
        display = self._comparison.volumeNode.GetDisplayNode()
        self._observations.add(display, "ModifiedEvent", self._onWindow)
        self._onWindow(display, "")
        self._draw()
        self._show(self._picture.node, 1.0)

    def _clear(self):
        self._timer.stop()
        self._observations.clear()
        if self._mode != MODES[0]:
            self._show(None, 0.0)
            self._composite.RemoveAttribute(FOREGROUND_ATTRIBUTE)
            self._comparison.note("")
        if self._picture is not None:
            self._picture.cleanup()
            self._picture = None
        self._mode = MODES[0]

    def _show(self, node, opacity):
        with slicer.util.NodeModify(self._composite):
            self._composite.SetForegroundVolumeID(node.GetID() if node else None)
            self._composite.SetForegroundOpacity(opacity)

    def _onBlink(self):
        self._composite.SetForegroundOpacity(1.0 - self._composite.GetForegroundOpacity())
        self._tell()

    def _tell(self):
        """Name what is shown: of an exact copy no mode shows anything that moves or differs."""
        if self._mode == "blink":
            training = self._composite.GetForegroundOpacity() > 0
            text = _("blink: training volume") if training else _("blink: scored volume")
        elif self._mode == "checkerboard":
            text = _("checkerboard: squares of both volumes by turns")
        else:
            window = abs(self._comparison.volumeNode.GetDisplayNode().GetWindow()) or 1.0
            percent = 100 * self._largest / window
            text = _("difference: none above {percent} % of the window").format(percent=_SEEN)
            if percent > _SEEN:
                text = _("difference: up to {percent:.1f} % of the window").format(percent=percent)
        self._comparison.note(text)

    def _onWindow(self, display, _event):
        if self._mode == "difference":
            half = _DIFFERENCE * display.GetWindow()
            self._picture.display.SetWindowLevelMinMax(-half, half)
        else:
            self._picture.display.SetWindowLevel(display.GetWindow(), display.GetLevel())
        self._tell()

    def _draw(self):
        """Compute the picture of the slice that is shown."""
        if self._picture is None:
            return
        comparison, number = self._comparison, self._comparison.number
        if number is None:
            return
        slices = comparison.link.scored.slices
        query = slices.image(slicer.util.arrayFromVolume(comparison.volumeNode), number).astype(float)
        voxels = slicer.util.arrayFromVolume(comparison.trainingNode)
        toTraining = comparison.link.toTraining(number)
        training = aligned_slice(slices, number, toTraining, voxels, comparison.copy.affine)
        training = comparison.intensities.to_query(training)
        # Beyond the training volume nothing can be said: no difference, and the query itself.
        training = np.where(np.isnan(training), query, training)
        self._largest = float(np.abs(query - training).max())
        picture = query - training if self._mode == "difference" else checkerboard(query, training)
        toWorld = slices.to_world
        toWorld[:3, 3] = slices.to_world[:3] @ [number, 0, 0, 1]
        self._picture.draw(picture, toWorld)
        self._tell()
