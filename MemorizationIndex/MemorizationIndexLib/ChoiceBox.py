"""A combo box whose entries stand for values."""


class ChoiceBox:
    """Fills the combo box ``combo`` with ``{value: text for the user}``; ``onChanged(value)`` when the user chooses.

    (``connectGui`` shows the values themselves, which nobody could translate.)
    """

    def __init__(self, combo, texts, onChanged):
        self._combo, self._onChanged, self._values = combo, onChanged, []
        self.offer(texts)
        combo.connect("currentIndexChanged(int)", self._onIndexChanged)

    def offer(self, texts):
        """Offer these values, and choose the first."""
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        self._values = list(texts)
        for text in texts.values():
            self._combo.addItem(text)
        self._combo.blockSignals(blocked)

    @property
    def value(self):
        """What is chosen."""
        return self._values[max(self._combo.currentIndex, 0)]

    def choose(self, value):
        """Show ``value`` as chosen, without telling; one that is not offered shows the first."""
        blocked = self._combo.blockSignals(True)
        self._combo.setCurrentIndex(self._values.index(value) if value in self._values else 0)
        self._combo.blockSignals(blocked)

    def _onIndexChanged(self, index):
        if index >= 0:
            self._onChanged(self._values[index])
