"""A scored volume beside the training volume that it matches."""

import contextlib
from pathlib import Path

import slicer
import vtk
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _

from .CompareLayout import QUERY, TRAINING, CompareLayout
from .Comparison import Comparison
from .Modes import MODES, Modes
from .Observations import Observations
from .Steps import finished


class Compare:
    """Shows a scored volume and its nearest training volume in two linked views, laid on each other by the match.

    ``trainingVolumes()`` gives the :class:`TrainingVolumes` of the chosen reference. ``mode`` says how the left view
    shows the two: ``side by side``, ``blink``, ``checkerboard`` or ``difference``. ``message`` says, in one sentence,
    what is missing. Nothing of the user's is changed, and all that is shown here is gone after :meth:`leave`.
    """

    def __init__(self, results, trainingVolumes):
        self._results, self._trainingVolumes = results, trainingVolumes
        self._layout, self._observations = CompareLayout(), Observations()
        self._comparison = self._modes = None
        self._matchWindowLevel, self._mode = True, MODES[0]
        #: Whether the user ended the last comparison by choosing another layout.
        self.dismissed = False

    @property
    def active(self):
        """Whether a comparison is shown."""
        return self._comparison is not None

    @property
    def message(self):
        """What is missing of the training volume, in a sentence about the slice that is shown; empty if nothing is."""
        return self._comparison.missing if self._comparison is not None else ""

    @property
    def mode(self):
        """How the left view shows the two volumes; one of ``Modes.MODES``."""
        return self._mode

    @mode.setter
    def mode(self, mode):
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
        self._mode = mode
        if self._modes is not None:
            self._modes.mode = mode

    @property
    def matchWindowLevel(self):
        """Whether window and level of one volume follow the other's, by their histograms."""
        return self._matchWindowLevel

    @matchWindowLevel.setter
    def matchWindowLevel(self, match):
        self._matchWindowLevel = bool(match)
        if self._comparison is not None:
            self._comparison.matchWindowLevel = self._matchWindowLevel

    def show(self, volumeNode, sliceRow=None, number=None):
        """Compare a scored volume with its main match, or that of one row of the slice table.

        ``number``: the slice to show; without it, that of the row, else the best one.

        Raises ``MemorizationIndexError`` where the volume was not scored or there are no views. A training volume that
        is not at hand is said in ``message``; what the result itself or the reference shows of it is shown.
        """
        finished(self.showing(volumeNode, sliceRow, number))

    def showing(self, volumeNode, sliceRow=None, number=None):
        """Generator: the same in steps, between which the application can live; ends where a node goes meanwhile."""
        self._check(volumeNode)
        match = (sliceRow or self._results.row(self._results.nameOf(volumeNode)))["match_volume"]
        yield from self._recognizing()
        trainingNode, reason = self._load(match)
        yield
        self._drop()
        yield
        if all(slicer.mrmlScene.IsNodePresent(node) for node in (volumeNode, trainingNode) if node is not None):
            self._begin(volumeNode, trainingNode, match, reason)
            own = None if sliceRow is None else int(sliceRow["slice"])
            self._comparison.start(own if number is None else number)

    def _begin(self, volumeNode, trainingNode, match, reason):
        self._layout.enter()
        self.dismissed = False
        widgets = [self._layout.widget(name) for name in (QUERY, TRAINING)]
        self._comparison = Comparison(self._results, volumeNode, trainingNode, match, widgets, reason)
        self._comparison.matchWindowLevel = self._matchWindowLevel
        if trainingNode is not None:
            self._modes = Modes(self._comparison, widgets[0].sliceLogic().GetSliceCompositeNode())
            self._modes.mode = self._mode
        self._observe()

    def leave(self):
        """Give the user's layout back and remove everything that was shown."""
        self._drop()
        self._layout.leave()

    def cleanup(self):
        """The same as :meth:`leave`."""
        self.leave()

    def _drop(self):
        self._observations.clear()
        manager = slicer.app.layoutManager()
        if self.active and manager is not None:
            manager.disconnect("layoutChanged(int)", self._onLayoutChanged)
        for part in (self._modes, self._comparison):
            if part is not None:
                part.cleanup()
        self._modes = self._comparison = None

    def _check(self, volumeNode):
        if not self._results.slicesOf(volumeNode):
            raise MemorizationIndexError(_("{name}: was not scored; score it first.").format(name=volumeNode.GetName()))
        if slicer.app.layoutManager() is None:
            raise MemorizationIndexError(_("There are no slice views without a main window; start Slicer with one."))

    def _recognizing(self):
        """Generator: find training volumes that the user has loaded meanwhile."""
        with contextlib.suppress(MemorizationIndexError, OSError):  # without its reference: :meth:`_load` says it
            yield from self._trainingVolumes().recognizing()

    def _load(self, match):
        """The node of the training volume, or None, and the reason why it is not at hand."""
        folder = self._results.parameter.trainingFolder
        try:
            node = self._trainingVolumes().load(match, None if folder in (None, Path()) else folder)
        except (MemorizationIndexError, OSError) as error:
            return None, str(error)
        self._results.link({match: node})
        return node, ""

    # --- Events ------------------------------------------------------------------------------------------------------

    def _observe(self):
        scene = slicer.mrmlScene
        self._observations.add(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self._observations.add(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
        slicer.app.layoutManager().connect("layoutChanged(int)", self._onLayoutChanged)

    def _onSceneStartClose(self, _caller, _event):
        self.leave()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, _caller, _event, node):
        if self._comparison is not None and self._comparison.needs(node):
            self.leave()

    def _onLayoutChanged(self, _layout):
        if not self._layout.isShown:
            self.dismissed = True
            self.leave()
