"""Observers of VTK objects that are removed together."""


class Observations:
    """Keeps what is observed only until :meth:`clear`. (Slicer's VTKObservationMixin holds on to objects it let go.)"""

    def __init__(self):
        self._tags = []

    def __len__(self):
        return len(self._tags)

    def add(self, subject, event, callback, priority=0.0):
        """Call ``callback(subject, event)`` at an event of a VTK object; returns the observer's tag."""
        tag = subject.AddObserver(event, callback, priority)
        self._tags.append((subject, tag))
        return tag

    def clear(self):
        """Remove every observer."""
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags = []
