"""Keys for reading: they work while the panel is shown, whatever has the focus."""

import qt
from slicer.i18n import tr as _

#: What Slicer's own keys are is in its user guide ("Mouse & Keyboard Shortcuts"); none of them has Alt and a key alone.
KEYS = {
    "nextFlagged": "Alt+Right",
    "previousFlagged": "Alt+Left",
    "nextVolume": "Alt+Down",
    "previousVolume": "Alt+Up",
    "overlay": "Alt+O",
    "blink": "Alt+B",
    "copy": "Alt+1",
    "notCopy": "Alt+2",
    "unsure": "Alt+3",
}


class Shortcuts:
    """Calls ``actions[name]()`` at the key ``KEYS[name]``. The keys are asleep while ``parent`` is hidden."""

    def __init__(self, parent, actions):
        self._shortcuts = [self._shortcut(parent, name, action) for name, action in actions.items()]

    @staticmethod
    def _shortcut(parent, name, action):
        shortcut = qt.QShortcut(parent)
        shortcut.setKey(qt.QKeySequence(KEYS[name]))
        shortcut.setContext(qt.Qt.ApplicationShortcut)
        shortcut.connect("activated()", action)
        return shortcut

    @staticmethod
    def texts(actions):
        """``{key: what it does}`` of the ``actions`` that there are."""
        said = {
            "nextFlagged": _("next flagged slice"),
            "previousFlagged": _("previous flagged slice"),
            "nextVolume": _("next volume"),
            "previousVolume": _("previous volume"),
            "overlay": _("overlay on or off"),
            "blink": _("blink on or off"),
            "copy": _("decide: the volume is a copy"),
            "notCopy": _("decide: the volume is not a copy"),
            "unsure": _("decide: unsure"),
        }
        return {_shown(KEYS[name]): text for name, text in said.items() if name in actions}

    def cleanup(self):
        """Give the keys back."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
        self._shortcuts = []


def _shown(key):
    """A key as the documentation has it."""
    for name, arrow in {"Right": "→", "Left": "←", "Down": "↓", "Up": "↑"}.items():
        key = key.replace(f"+{name}", f"+{arrow}")
    return key
