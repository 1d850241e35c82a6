"""Window and level of two volumes that follow each other through their histograms."""

import numpy as np

from .Observations import Observations


class WindowLevelLink:
    """While ``enabled``, a change of one display's window is made in the other one, at the matching intensities."""

    def __init__(self, queryDisplay, trainingDisplay, intensities):
        self._query, self._training, self._intensities = queryDisplay, trainingDisplay, intensities
        self._own = trainingDisplay.GetWindow(), trainingDisplay.GetLevel()
        self._observations, self._following = Observations(), False

    @property
    def enabled(self):
        """Whether the windows follow each other; off, the training volume has the window that it had at first."""
        return bool(len(self._observations))

    @enabled.setter
    def enabled(self, enabled):
        if enabled == self.enabled:
            return
        if enabled:
            self._observations.add(self._query, "ModifiedEvent", self._onQuery)
            self._observations.add(self._training, "ModifiedEvent", self._onTraining)
            self._onQuery(self._query, "")
        else:
            self._observations.clear()
            self._training.SetWindowLevel(*self._own)

    def cleanup(self):
        """Stop to follow."""
        self._observations.clear()

    def _onQuery(self, _caller, _event):
        self._follow(self._query, self._training, self._intensities.to_training)

    def _onTraining(self, _caller, _event):
        self._follow(self._training, self._query, self._intensities.to_query)

    def _follow(self, source, target, convert):
        if self._following:
            return
        ends = [source.GetWindowLevelMin(), source.GetWindowLevelMax()]
        low, high = convert(np.array(ends))
        if np.allclose([low, high], [target.GetWindowLevelMin(), target.GetWindowLevelMax()], rtol=1e-6):
            return
        self._following = True
        target.SetAutoWindowLevel(False)
        target.SetWindowLevelMinMax(low, high)
        self._following = False
