"""Buttons for the reader's decision on a volume and on a slice."""

from slicer.i18n import tr as _

from .Review import DECISIONS


class ReviewPanel:
    """Shows and takes decisions on the volume and slice that are looked at. ``onDecided()`` after each."""

    def __init__(self, ui, review, onDecided):
        self.ui, self._review, self._onDecided = ui, review, onDecided
        self._volume, self._slice = None, None
        self._volumeButtons = (ui.volumeCopyButton, ui.volumeNotCopyButton, ui.volumeUnsureButton)
        self._sliceButtons = (ui.sliceCopyButton, ui.sliceNotCopyButton, ui.sliceUnsureButton)
        for number, decision in enumerate(DECISIONS):
            self._volumeButtons[number].connect("clicked()", self._decider(decision))
            self._sliceButtons[number].connect("clicked()", self._sliceDecider(decision))
        ui.noteEdit.connect("editingFinished()", self.onNote)
        ui.undoButton.connect("clicked()", self.onUndo)
        ui.redoButton.connect("clicked()", self.onRedo)

    def show(self, volume, sliceNumber):
        """Show the decisions on a volume (its name, or None) and on one of its slices (or None)."""
        if volume != self._volume:
            self.ui.noteEdit.clear()  # also while it is written in: it would become the next volume's
        self._volume, self._slice = volume, sliceNumber
        self.update()

    def update(self):
        """Show what is decided, and how much."""
        ui = self.ui
        own = self._decision(None)
        self._check(self._volumeButtons, own["decision"], self._volume is not None)
        self._check(self._sliceButtons, self._decision(self._slice)["decision"], self._slice is not None)
        if not ui.noteEdit.hasFocus():
            ui.noteEdit.setText(own["note"])
        ui.noteEdit.enabled = self._volume is not None
        text = _("Slice:") if self._slice is None else _("Slice {number}:").format(number=self._slice)
        ui.sliceDecisionLabel.text = text
        done, total = self._review.reviewed()
        text = _("{done} of {total} reviewed").format(done=done, total=total) if total else ""
        slices = self._review.decidedSlices()
        if slices:
            text += _(", 1 slice decided") if slices == 1 else _(", {count} slices decided").format(count=slices)
        ui.reviewedLabel.text = text
        ui.undoButton.enabled, ui.redoButton.enabled = self._review.canUndo, self._review.canRedo

    def decide(self, decision):
        """Decide on the volume; the same decision once more takes it back."""
        if self._volume is not None:
            own = self._decision(None)
            wanted = "" if own["decision"] == decision else decision
            self._put(None, wanted, self.ui.noteEdit.text)

    def onNote(self):
        """Keep the note."""
        own = self._decision(None)
        if self._volume is not None and self.ui.noteEdit.text != own["note"]:
            self._put(None, own["decision"], self.ui.noteEdit.text)

    def onUndo(self):
        """Take the last decision back."""
        self._review.undo()
        self._onDecided()

    def onRedo(self):
        """Decide again what was taken back."""
        self._review.redo()
        self._onDecided()

    def _decider(self, decision):
        return lambda: self.decide(decision)

    def _sliceDecider(self, decision):
        return lambda: self._decideSlice(decision)

    def _decideSlice(self, decision):
        own = self._decision(self._slice)
        self._put(self._slice, "" if own["decision"] == decision else decision, own["note"])

    def _put(self, sliceNumber, decision, note):
        self._review.decide(self._volume, sliceNumber, decision, note, self.ui.readerEdit.text)
        self._onDecided()

    def _decision(self, sliceNumber):
        found = None if self._volume is None else self._review.decisionOf(self._volume, sliceNumber)
        return found or {"decision": "", "note": ""}

    @staticmethod
    def _check(buttons, decided, enabled):
        for decision, button in zip(DECISIONS, buttons, strict=True):
            button.checked = decision == decided
            button.enabled = enabled
