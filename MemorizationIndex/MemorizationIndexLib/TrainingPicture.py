"""What is shown where the training volume itself is not at hand."""

import numpy as np
from slicer.i18n import tr as _

from .SlicePicture import SlicePicture
from .Thumbnails import Thumbnails


class TrainingPicture:
    """Small pictures of matched training slices, laid on the scored volume's slices."""

    def __init__(self, results, link, reason):
        self._link, self._reason = link, reason
        self._pictures = Thumbnails(results).of(link)
        self._drawing = SlicePicture(_("{volume} (picture)").format(volume=link.matchName))
        self._drawing.display.SetWindowLevelMinMax(0, 255)
        self.node = self._drawing.node
        self.show(min(self.numbers, default=0))

    @property
    def numbers(self):
        """The slices of the scored volume for which there is a picture."""
        return set(self._pictures)

    def show(self, number):
        """Show the picture for a slice; black where there is none."""
        picture = self._pictures.get(number, np.zeros((2, 2), np.uint8))
        size = len(picture)
        square = self._link.scored.slices.square(number)
        # From pixels (slice, row, column) to the square's coordinates (row, column, slice).
        pixels = np.zeros((4, 4))
        pixels[2, 0] = pixels[3, 3] = 1
        pixels[0, 1] = pixels[1, 2] = 1 / size
        pixels[:2, 3] = 0.5 / size - 0.5
        self._drawing.draw(picture, square @ pixels)

    def describe(self, number):
        """Why the volume is not seen, and what is."""
        if number in self._pictures:
            matched = self._link.matchedSlice(number)
            return _("{reason} A small picture of its slice {number} is shown.").format(
                reason=self._reason, number=matched
            )
        if self._pictures:
            shown = ", ".join(str(one) for one in sorted(self._pictures)[:5])
            return _("{reason} There are small pictures of it for slices {numbers} only.").format(
                reason=self._reason, numbers=shown
            )
        return _("{reason} There is no picture of it.").format(reason=self._reason)

    def cleanup(self):
        """Remove the nodes."""
        self._drawing.cleanup()
