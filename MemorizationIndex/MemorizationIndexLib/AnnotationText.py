"""A text of our own in a slice view. (The view's corner annotation is written anew by DataProbe at every update.)"""

import math
import textwrap

import vtk
from slicer.i18n import tr as _

_SIZE = 15
_SMALLEST = 11  # what does not fit even then is wrapped
_MARGIN = 8


class AnnotationText:
    """A few lines of text in a renderer; shown while there is something to say."""

    def __init__(self, renderer, atTop=True):
        self._renderer, self._atTop, self._shown = renderer, atTop, False
        self.actor = vtk.vtkTextActor()
        style = self.actor.GetTextProperty()
        style.SetFontSize(_SIZE)
        style.SetColor(1, 1, 1)
        style.SetBackgroundColor(0, 0, 0)
        style.SetBackgroundOpacity(0.6)
        style.SetJustificationToCentered() if atTop else style.SetJustificationToLeft()
        style.SetVerticalJustificationToTop() if atTop else style.SetVerticalJustificationToCentered()

    @property
    def text(self):
        """What is shown; empty while nothing is."""
        return self.actor.GetInput() if self._shown else ""

    def show(self, text, x=None, y=None):
        """Show ``text`` at the top of the view, or at (x, y) pixels from its lower left corner; nothing if empty."""
        if bool(text) != self._shown:
            self._shown = bool(text)
            (self._renderer.AddViewProp if text else self._renderer.RemoveViewProp)(self.actor)
        if not text:
            return
        self.actor.SetInput(text)
        width, height = self._renderer.GetRenderWindow().GetSize()
        self.actor.GetTextProperty().SetFontSize(_SIZE)
        box = [0.0, 0.0]
        self.actor.GetSize(self._renderer, box)
        fits = (width - 4 * _MARGIN) / max(box[0], 1)  # so much of the widest line, at full size
        if fits < 1:
            self.actor.GetTextProperty().SetFontSize(max(_SMALLEST, int(_SIZE * fits)))
        if fits < _SMALLEST / _SIZE:
            lines = text.splitlines()
            most = max(1, int(max(map(len, lines)) * fits * _SIZE / _SMALLEST))
            self.actor.SetInput("\n".join(part for line in lines for part in textwrap.wrap(line, most)))
        self.actor.SetPosition(*((width / 2, height - _MARGIN) if self._atTop else (x, y)))


def transformText(transform):
    """What was done to the training slice, as people say it."""
    return _("not moved") if transform == "identity" else transform


def describeSlice(row):
    """What a reader wants to know of a slice: its class and evidence, and in a second line its match."""
    evidence = [row["match_class"] or _("not verified")]
    numbers = [
        (_("p {value}"), "p_value", "{:.2g}"),
        (_("MI {value}"), "mi", "{:.1f}"),
        (_("ONI {value}"), "oni", "{:+.2f}"),
    ]
    for label, column, form in numbers:
        if not math.isnan(row[column]):
            evidence.append(label.format(value=form.format(row[column])))
    match = [_("{volume} slice {slice}").format(volume=row["match_volume"], slice=int(row["match_slice"]))]
    if row["match_subject"] and row["match_subject"] != row["match_volume"]:
        match.insert(0, row["match_subject"])
    if not math.isnan(row["ncc"]):
        match += [_("NCC {value}").format(value=f"{row['ncc']:.2f}"), transformText(row["transform"])]
    return " · ".join(evidence) + "\n" + " · ".join(match)
