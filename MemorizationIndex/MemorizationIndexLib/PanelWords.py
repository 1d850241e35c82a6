"""What the library says, in the panel's words: it names the options of the command line, the panel has fields."""

import re

from slicer.i18n import tr as _


def inPanelWords(message):
    """The message with the names of the panel's fields."""
    for pattern, words in _words():
        message = re.sub(pattern, words, message)
    return message


def _words():
    """Pattern and what is said instead."""
    training, key = _("under Advanced › Training files"), _("under Advanced › Key file")
    return (
        (r"choose another --out", _("choose another folder")),
        (r"with --training-root", training),
        (r"the key with --key", _("the key {place}").format(place=key)),
        (r"^--key ", _("Key file ")),
        (r"give --key FILE", _("name its file {place}").format(place=key)),
        (r"give --weights(?: FILE)?", _("name the file under Advanced › Weights")),
        (r"^--weights", _("Advanced › Weights")),
        (r"--plane (\w+)", _(r"Plane: \1")),
        (r" \(no table, BIDS name, DICOM PatientID or --subjects\)", _(" (no table, BIDS name or DICOM PatientID)")),
        (r"No query image could be scored", _("No volume could be examined")),
        (r" or --subjects", ""),
        (r"--subjects", _("the table of subjects")),
        (r"that was built with --pseudonymize", _("that is pseudonymized")),
        (r"the file that 'build --pseudonymize' made", _("the file that was made with the reference")),
        (r"'memorization-index\s+build'", _("Build")),
        (r"update memorization-index", _("update the extension")),
        (r"run the same command again", _("press the button again")),
        (r"[/\\]manifest\.json:", ":"),
        (r" \([^()]*manifest\.json[^()]*\)", ""),
        (r"the manifest of a reference", _("a reference")),
    )


def stageInPanelWords(stage):
    """What the worker is doing, as the panel says it."""
    stages = {
        "reading and describing": _("Reading"),
        "finding the training volumes": _("Looking for the training volumes"),
        "comparing with the training set": _("Comparing with the training volumes"),
        "joining features": _("Putting together"),
        "building the null": _("Comparing the training volumes with each other"),
        "verifying": _("Laying slices onto what they match"),
        "measuring the power": _("Measuring what would be found"),
        "drawing thumbnails": _("Drawing small pictures"),
    }
    return stages.get(stage, stage)


def unitInPanelWords(unit):
    """What is counted, as the panel says it."""
    units = {"volumes": _("volumes"), "slices": _("slices"), "augmentations": _("kinds of copies")}
    return units.get(unit, "")
