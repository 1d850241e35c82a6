"""How the slices of a scored volume lie on the training volume that they match."""

import numpy as np
from memorization_index.alignment import Alignment, query_to_training

from .ScoredVolume import ScoredVolume, shownSlice, worldSlices

_UNALTERED = Alignment(False, 0, np.eye(2), np.zeros(2))


class Link:
    """The match between a scored volume and one training volume, slice by slice.

    ``scored`` is the :class:`ScoredVolume`. A slice whose match with this training volume was verified has its own
    alignment; any other slice is placed as the nearest such slice is. Without any, matched slices are laid on each
    other as they are.
    """

    def __init__(self, results, volumeNode, trainingNode, matchName):
        self.scored = ScoredVolume(volumeNode, results.slicesOf(volumeNode))
        self.trainingNode, self.matchName = trainingNode, matchName
        verified = self._ofMatch({int(row["slice"]): row for row in results.alignmentsOf(volumeNode)})
        self.alignments = {number: Alignment.of_row(row) for number, row in verified.items()}
        rows = verified or self._ofMatch(self.scored.rows)
        self._matched = {number: int(row["match_slice"]) for number, row in rows.items()} or {0: 0}
        numbers, matched = np.array(list(self._matched.items())).T
        # Slices of a copy may run the other way.
        self._direction = -1 if np.sum((numbers - numbers.mean()) * (matched - matched.mean())) < 0 else 1

    def _ofMatch(self, rows):
        return {number: row for number, row in rows.items() if row["match_volume"] == self.matchName}

    def sliceOf(self, sliceNode):
        """The number of the slice that a view shows, or of the nearest one where the view is turned or outside."""
        slices = self.scored.slices
        number = shownSlice(slices, sliceNode)
        if number is None:
            center = [sliceNode.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
            number = int(np.floor(slices.pixels(center)[0] + 0.5))
        return min(max(number, 0), slices.shape[0] - 1)

    def isVerified(self, number):
        """Whether this slice's own match with the training volume was verified."""
        return number in self.alignments

    def matchedSlice(self, number):
        """The number of the training volume's slice that lies on slice ``number``; it may be beyond the volume."""
        nearest = self._nearest(number)
        return self._matched[nearest] + self._direction * (number - nearest)

    def squareToTraining(self, number):
        """4 × 4 between the square coordinates (see ``memorization_index.alignment``) of a slice and of its match."""
        return self.alignments.get(self._nearest(number), _UNALTERED).query_to_training()

    def toTraining(self, number):
        """4 × 4 from RAS points of slice ``number`` to RAS points of the training volume."""
        nearest = self._nearest(number)
        training = worldSlices(self.trainingNode, self.scored.plane).square(self._matched[nearest])
        query = self.scored.slices.square(nearest)
        return query_to_training(self.alignments.get(nearest, _UNALTERED), query, training, self._direction)

    def _nearest(self, number):
        return min(self._matched, key=lambda other: abs(other - number))
