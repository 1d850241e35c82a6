"""The panel's part in installing: one line, one button, the log, the folder of wheels, the weights."""

import unittest
from pathlib import Path

import slicer
from test_installer import InstallerTestCase, writeWheel
from testsupport import waitUntil

MODULE = "MemorizationIndex"


class InstallPanelTest(InstallerTestCase):
    def setUp(self):
        super().setUp()
        widget = slicer.util.getModuleWidget(MODULE)
        widget.enter()
        self.ui, self.panel = widget.panel.ui, widget.panel.install
        self.logic, self.update = widget.logic, widget.panel.update
        own, ownWeights = self.panel.installer, self.panel.weights
        self.addCleanup(self.use, own)
        self.addCleanup(setattr, self.panel, "weights", ownWeights)

    def use(self, installer):
        self.panel.installer = self.logic.installer = installer
        self.update()

    def test_missing_is_said_and_installed_from_a_folder(self):
        writeWheel(self.wheels, "miprobe", "1.2", "")
        self.use(self.installer(["miprobe>=1.0  # 0.3 MB"]))
        self.assertIn("PyPI first: miprobe (0.3 MB)", self.ui.installLabel.text)
        self.ui.wheelsPath.currentPath = str(self.wheels)
        self.addCleanup(setattr, self.ui.wheelsPath, "currentPath", "")
        self.assertIn(f"from {self.wheels} first, without network", self.ui.installLabel.text)
        self.assertEqual((self.ui.installButton.text, self.ui.installButton.isHidden()), ("Install", False))
        self.ui.installButton.click()
        self.assertEqual(self.panel.installer.missing(), [])
        self.assertTrue(self.ui.installButton.isHidden() and self.ui.installLabel.isHidden())

    def test_a_failure_is_one_line_and_the_log_can_be_copied(self):
        self.use(self.installer(["miprobe>=1.0  # 0.3 MB"]))
        self.panel.installer.wheelFolder = self.wheels
        self.assertTrue(self.ui.installLogButton.isHidden())
        self.ui.installButton.click()
        self.assertIn("No matching distribution found", self.ui.installLabel.text)
        self.assertFalse(self.ui.installLogButton.isHidden())
        self.assertEqual(self.ui.installButton.text, "Install")
        self.ui.installLogButton.click()
        self.assertEqual(slicer.app.clipboard().text(), self.panel.installer.log)

    def test_an_encoder_asks_for_what_it_needs(self):
        self.use(self.installer([], ["torch>=999  # 200 MB # mri-core"]))
        self.assertTrue(self.ui.installLabel.isHidden())
        parameter = self.logic.getParameterNode()
        parameter.encoder = "mri-core"
        self.assertIn("torch (200 MB)", self.ui.installLabel.text)
        self.assertIn("needs a file of weights", self.ui.weightsInfoLabel.text)

    def test_wrong_weights_are_refused_in_the_panel(self):
        page = self.folder / "page.pth"
        page.write_text("<!DOCTYPE html><html></html>", encoding="utf-8")
        self.ui.weightsPath.currentPath = str(page)
        self.addCleanup(setattr, self.panel, "_refused", "")
        waitUntil(lambda: "page.pth" in self.ui.weightsInfoLabel.text)
        self.assertIsNone(self.panel.weights.path)

    def test_checked_weights_are_taken_without_asking(self):
        class Checked:
            path, description = Path("/weights/checked.pth"), "layout …"

        self.panel.weights = Checked()
        parameter = self.logic.getParameterNode()
        parameter.encoder = "mri-core"
        self.assertEqual(parameter.weights, Checked.path)
        self.assertEqual(self.ui.weightsInfoLabel.text, "layout …")


if __name__ == "__main__":
    unittest.main()
