"""The panel leaves nothing behind: observers and nodes are counted over fifty rounds of reading and closing."""

import re
import unittest

import slicer
from panelsupport import PanelTestCase
from viewsupport import peakMemory


def observers(subject):
    """How many observers the scene has, as it prints them."""
    return len(re.findall(r"^\s*vtkObserver \(", str(subject), re.MULTILINE))


class LifeTest(PanelTestCase):
    def state(self):
        """What must be the same whenever the scene is empty again."""
        slicer.app.processEvents()
        return {"nodes": slicer.mrmlScene.GetNumberOfNodes(), "observers": observers(slicer.mrmlScene)}

    def read(self):
        """A result is shown, read and decided on."""
        self.threeVolumes()
        self.panel.results.moveFlagged(-1)
        self.click(self.ui.volumeCopyButton)
        self.click(self.ui.undoButton)
        self.ui.worklistTable.selectRow(1)
        self.click(self.ui.sliceUnsureButton)
        self.ui.overlayCheckBox.click()
        self.ui.overlayCheckBox.click()

    def test_an_observer_is_counted(self):
        before = observers(slicer.mrmlScene)
        tag = slicer.mrmlScene.AddObserver("ModifiedEvent", lambda *_event: None)
        self.assertEqual(observers(slicer.mrmlScene), before + 1)
        slicer.mrmlScene.RemoveObserver(tag)
        self.assertEqual(observers(slicer.mrmlScene), before)

    def test_fifty_rounds(self):
        peaks = []
        for number in range(50):
            self.read()
            slicer.mrmlScene.Clear(0)
            if number == 5:
                before = self.state()
            elif number > 5:
                self.assertEqual(self.state(), before, f"round {number}")
            peaks.append(peakMemory())
        self.assertLess(peaks[-1] - peaks[20], 20, "MiB in thirty rounds")


if __name__ == "__main__":
    unittest.main()
