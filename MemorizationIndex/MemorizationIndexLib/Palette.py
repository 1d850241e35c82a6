"""Colors that stay apart for color-blind readers: hues of Okabe & Ito (2008), scales whose lightness rises steadily."""

import math

import numpy as np
import slicer
from slicer.i18n import tr as _

#: Class of match → color (0–255).
CLASSES = {
    "exact": (213, 94, 0),
    "copy": (213, 94, 0),
    "altered copy": (230, 159, 0),
    "same anatomy": (204, 121, 167),
    "novel": (0, 114, 178),
    "": (140, 140, 140),
}
#: A slice that was not scored (there is nothing in it).
UNSCORED = (45, 45, 45)
#: This p and smaller ones have the full color.
_STRONGEST_P = 1e-3
_WEAKEST = 0.35  # part of the color that is left at p = 1
_UNCALIBRATED = 0.7

# Where the copy is: dark violet, red, orange, yellow.
_AGREEMENT = [(0.0, (40, 15, 90)), (0.35, (150, 30, 110)), (0.7, (240, 120, 50)), (1.0, (255, 235, 80))]
# Query brighter: orange; training brighter: blue; equal: black, as a difference of pictures is looked at.
_DIFFERENCE = [
    (0.0, (140, 200, 255)),
    (0.25, (0, 114, 178)),
    (0.5, (0, 0, 0)),
    (0.75, (213, 94, 0)),
    (1.0, (255, 205, 120)),
]


def sliceColor(row):
    """Color (0–255) of a slice: its class gives the hue, −log10 p the strength."""
    base = CLASSES.get(row["match_class"], CLASSES[""])
    p = row["p_value"]
    if math.isnan(p):
        strength = _UNCALIBRATED
    else:
        evidence = math.log10(max(p, _STRONGEST_P)) / math.log10(_STRONGEST_P)
        strength = _WEAKEST + (1 - _WEAKEST) * min(evidence, 1.0)
    return tuple(round(channel * strength) for channel in base)


def agreementTable():
    """A color node for local agreement; not saved with the scene."""
    return _table(_("MemorizationIndex agreement"), _AGREEMENT)


def differenceTable():
    """A color node for signed differences; not saved with the scene."""
    return _table(_("MemorizationIndex difference"), _DIFFERENCE)


def _table(name, anchors):
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetName(name)
    node.SetTypeToUser()
    node.SetNumberOfColors(256)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    positions, colors = zip(*anchors, strict=True)
    channels = [np.interp(np.linspace(0, 1, 256), positions, channel) / 255 for channel in zip(*colors, strict=True)]
    for index, color in enumerate(zip(*channels, strict=True)):
        node.SetColor(index, *color, 1.0)
    return slicer.mrmlScene.AddNode(node)
