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
