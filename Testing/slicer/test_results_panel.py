"""Worklist, plot and keys, driven as a reader drives them, on results that no run was needed for."""

import time
import unittest

import qt
import slicer
from MemorizationIndexLib.Shortcuts import KEYS, Shortcuts
from panelsupport import COPY, FLAGGED, PanelTestCase, smallVolume
from testsupport import waitUntil


class WorklistTest(PanelTestCase):
    def test_worst_first(self):
        self.threeVolumes()
        self.assertEqual(self.names(), ["third", "first", "second"])
        cells = self.row(0, range(8))
        self.assertEqual(cells, ["third", "copy", "copy", "0.001", "9.0 / +0.10", "sub-012", "1 of 4", ""])
        self.assertEqual(self.row(2, (3, 4)), ["", ""], "what was not given stays empty")

    def test_a_new_result_shows_its_worst_volume(self):
        nodes = self.threeVolumes()
        self.assertEqual(self.panel.results.worklist.chosen, "third")
        self.assertIs(self.panel.results.node, nodes["third"])
        self.assertIn("slice 4 · copy · p 0.0005", self.ui.volumeLabel.text)

    def test_sorting(self):
        self.threeVolumes()
        header = self.ui.worklistTable.horizontalHeader()
        orders = []
        for column in (0, 0, 3, 3, 1):
            header.sectionClicked.emit(column)
            orders.append(self.names())
        byName = ["first", "second", "third"]
        self.assertEqual(orders[:2], [byName, byName[::-1]])
        self.assertEqual(orders[2:4], [["third", "first", "second"], ["first", "third", "second"]], "no p comes last")
        self.assertEqual(orders[4][0], "third")
        self.assertEqual(self.panel.results.worklist.chosen, "third", "the choice moves with its row")
        self.assertEqual(self.ui.worklistTable.currentRow(), 0)

    def test_columns_keep_room_and_explain_themselves(self):
        table = self.ui.worklistTable
        self.showResult(
            {"a long name " * 9 + ".nii": {}, "c": COPY}, {"c": {2: FLAGGED}, "a long name " * 9 + ".nii": {}}
        )
        for column in (1, 7):
            table.horizontalHeader().sectionClicked.emit(column)
            self.assertGreaterEqual(table.columnWidth(0), 110)
            self.assertGreaterEqual(table.columnWidth(7), table.fontMetrics().horizontalAdvance("not a copy") + 8)
        for column in range(8):
            self.assertTrue(table.horizontalHeaderItem(column).toolTip(), column)
        for verdict in ("copy", "suspicious", "no evidence", "uncalibrated", "skipped"):
            self.assertIn(f"{verdict}: ", table.horizontalHeaderItem(1).toolTip())

    def test_a_chosen_row_keeps_its_verdicts_color(self):
        self.threeVolumes()
        table = self.ui.worklistTable
        self.widget.parent.show()
        self.addCleanup(self.widget.parent.hide)
        self.assertEqual((self.row(0, [1]), table.currentRow()), (["copy"], 0))
        for number, shown in ((0, True), (2, False)):
            table.selectRow(number)
            slicer.app.processEvents()
            picture = table.viewport().grab(table.visualItemRect(table.item(number, 1))).toImage()
            colors = [picture.pixelColor(x, y).name() for x in range(picture.width()) for y in range(picture.height())]
            self.assertEqual(colors.count("#d55e00") > 50, shown, number)

    def test_what_matters_comes_first(self):
        header = self.ui.worklistTable.horizontalHeader()
        titles = [self.ui.worklistTable.horizontalHeaderItem(header.logicalIndex(place)).text() for place in range(5)]
        self.assertEqual(titles, ["Volume", "Decision", "Verdict", "Match", "Flagged"])

    def test_filtering(self):
        self.addCleanup(self.ui.filterSelector.setCurrentIndex, 0)  # the panel outlives the test
        self.threeVolumes()
        self.ui.filterEdit.setText("SEC")
        self.assertEqual(self.names(), ["second"])
        self.ui.filterEdit.setText("")
        self.ui.filterSelector.setCurrentIndex(1)
        self.assertEqual(self.names(), ["third"])
        self.ui.filterSelector.setCurrentIndex(2)
        self.assertEqual(len(self.names()), 3)
        self.panel.results.review.decide("copy")
        self.assertEqual(self.names(), ["first", "second"], "what is decided leaves the list of what is not")
        self.assertEqual(self.panel.results.worklist.chosen, "first", "and the next one is shown")

    def test_a_filter_that_hides_the_chosen_volume_chooses_another(self):
        self.addCleanup(self.ui.filterEdit.clear)  # the panel outlives the test
        nodes = self.threeVolumes()
        self.ui.noteEdit.setText("typed, not yet left")
        self.ui.filterEdit.setText("sec")
        self.assertIs(self.panel.results.node, nodes["second"])
        self.assertEqual(self.ui.chosenLabel.text, "second · slice 1")
        self.assertEqual(self.logic.review.decisionOf("third")["note"], "typed, not yet left")
        self.assertEqual(self.ui.noteEdit.text, "")
        self.click(self.ui.volumeCopyButton)
        self.assertEqual(self.logic.review.decisionOf("second")["decision"], "copy")
        self.ui.filterEdit.setText("no such volume")
        self.assertEqual((self.panel.results.node, self.ui.chosenLabel.text), (None, ""))
        self.assertIn("change the filter", self.panel.results.plot._empty)
        for button in (self.ui.volumeCopyButton, self.ui.sliceCopyButton, self.ui.noteEdit):
            self.assertFalse(button.enabled)
        self.panel.onJump(nodes["third"], 2)
        self.assertEqual(self.ui.chosenLabel.text, "", "a view shows a volume that the list does not")
        self.ui.filterEdit.setText("")
        self.assertEqual(self.ui.chosenLabel.text, "third · slice 4")

    def test_choosing_a_row_shows_its_volume(self):
        nodes = self.threeVolumes()
        self.ui.worklistTable.selectRow(1)
        self.assertIs(self.panel.results.node, nodes["first"])
        self.assertIn("novel", self.ui.volumeLabel.text)
        if slicer.app.layoutManager() is not None:
            composite = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
            self.assertEqual(composite.GetBackgroundVolumeID(), nodes["first"].GetID())

    def test_a_volume_that_was_left_out(self):
        header = self.ui.worklistTable.horizontalHeader()
        for _click in range(2):
            header.sectionClicked.emit(1)  # the last verdict first
        skipped = {"a torn.nii": "a torn.nii: is no image"}
        self.showResult({"b": {}, "c": COPY}, {"b": {1: {}}, "c": {2: FLAGGED}}, skipped=skipped)
        self.assertEqual(self.names(), ["c", "b", "a torn.nii"], "a new result is sorted worst first")
        self.assertEqual(self.panel.results.worklist.chosen, "c")
        self.assertEqual(self.ui.summaryLabel.text, "1 of 2 is a copy, 0 suspicious, 1 skipped")
        self.ui.statusLabel.clear()
        self.ui.worklistTable.selectRow(2)
        self.assertEqual((self.ui.statusLabel.text, self.ui.volumeLabel.text), ("", "a torn.nii: is no image"))
        self.assertEqual(self.ui.chosenLabel.text, "a torn.nii")
        for widget in (self.ui.volumeCopyButton, self.ui.sliceCopyButton, self.ui.noteEdit):
            self.assertFalse(widget.enabled)
        self.panel.results.review.decide("copy")
        self.assertEqual(self.logic.review.rows(), [])
        self.assertIn("was skipped", self.panel.results.plot._empty)
        if slicer.app.layoutManager() is not None:
            composite = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
            self.assertIsNone(composite.GetBackgroundVolumeID(), "not the volume of the row before")

    def test_a_file_that_was_skipped_is_called_by_its_name(self):
        path = str(self.folder / "scans" / "torn.nii")
        self.showResult({"c": COPY}, {"c": {2: FLAGGED}}, skipped={path: f"{path}: is no image"})
        self.assertEqual(self.names(), ["c", "torn.nii"])
        self.assertIn(path, self.ui.worklistTable.item(1, 0).toolTip())
        self.ui.worklistTable.selectRow(1)
        self.assertEqual(self.ui.chosenLabel.text, "torn.nii")

    def test_uncalibrated_volumes_are_counted(self):
        uncalibrated = {"verdict": "uncalibrated", "p_value": "", "mi": ""}
        self.showResult({"b": uncalibrated, "c": COPY}, {"b": {1: {}}, "c": {2: FLAGGED}})
        self.assertEqual(self.ui.summaryLabel.text, "1 of 2 is a copy, 0 suspicious, 1 uncalibrated")

    def test_a_volume_that_was_deleted(self):
        nodes = self.threeVolumes()
        slicer.mrmlScene.RemoveNode(nodes["first"])
        self.ui.worklistTable.selectRow(1)
        self.assertIn("first: is not in the scene any more", self.ui.statusLabel.text)
        self.assertIsNone(self.panel.results.node)
        self.assertIn("slice 1", self.ui.volumeLabel.text, "what was found is shown all the same")

    def test_what_is_said_of_one_action_goes_with_the_next(self):
        self.threeVolumes()
        results = self.panel.results
        for act in (
            lambda: results.worklist.move(1),
            lambda: results.review.decide("copy"),
            lambda: results.jump(1),
            lambda: slicer.mrmlScene.Clear(0),
        ):
            results.worklist.choose("third")
            results.jump(4)
            results.moveFlagged(1)
            self.assertEqual(self.ui.statusLabel.text, "There is no further flagged slice.")
            act()
            self.assertEqual(self.ui.statusLabel.text, "")

    def test_the_shown_volume_is_deleted(self):
        nodes = self.threeVolumes()
        slicer.mrmlScene.RemoveNode(nodes["third"])
        self.panel.results.moveFlagged(-1)
        self.assertIsNone(self.panel.results.node)

    def test_files_are_loaded_when_chosen(self):
        nodes = {name: smallVolume(name, 3) for name in ("a", "b")}
        paths = {name: str(self.folder / f"{name}.nrrd") for name in nodes}
        for name, node in nodes.items():
            storage = slicer.vtkMRMLNRRDStorageNode()
            storage.SetFileName(paths[name])
            self.assertTrue(storage.WriteData(node))
            slicer.mrmlScene.RemoveNode(node)
        volumes = {"a": {"path": paths["a"]}, "b": {**COPY, "path": paths["b"]}}
        self.showResult(volumes, {"a": {1: {}}, "b": {2: FLAGGED}}, files=True)
        node = self.panel.results.node
        self.assertEqual((node.GetName(), node.GetAttribute("MemorizationIndex.Verdict")), ("b", "copy"))
        for selector in (self.ui.volumeSelector, self.ui.trainingSelector):
            waitUntil(lambda selector=selector: selector.nodeCount() == 0)  # it is only looked at
        smallVolume("of the user")
        self.assertEqual(self.ui.volumeSelector.nodeCount(), 1)
        self.ui.worklistTable.selectRow(1)
        self.ui.worklistTable.selectRow(0)
        self.assertIs(self.panel.results.node, node, "a file is loaded once")

    def test_five_hundred_volumes(self):
        count = 500
        volumes = {f"volume {i:03d}": {"p_value": i / count, "verdict": "no evidence"} for i in range(count)}
        volumes["volume 250"] = COPY
        self.showResult(volumes, {name: {k: {} for k in range(1, 41)} for name in volumes})
        self.assertEqual(self.ui.worklistTable.rowCount, count)
        self.assertEqual(self.names()[:3], ["volume 250", "volume 000", "volume 001"])
        self.assertEqual(self.ui.reviewedLabel.text, "0 of 500 reviewed")
        started = time.perf_counter()
        self.ui.filterEdit.setText("volume 1")
        self.ui.filterEdit.setText("")
        self.panel.results.worklist.move(1)
        self.panel.results.review.decide("unsure")
        print(f"500 volumes: filtered twice, moved, decided in {time.perf_counter() - started:.2f} s")
        self.assertEqual(self.ui.reviewedLabel.text, "1 of 500 reviewed")


class PlotTest(PanelTestCase):
    def setUp(self):
        super().setUp()
        self.threeVolumes()
        self.plot = self.panel.results.plot
        self.plot.grab()  # lays it out

    def color(self, x, y):
        color = self.plot.grab().toImage().pixelColor(x, y)
        return color.red(), color.green(), color.blue()

    def test_points_and_band(self):
        flagged, plain = self.plot.place(2, 9.0), self.plot.place(1, 0.5)
        self.assertEqual(self.color(*flagged), (213, 94, 0))
        self.assertEqual(self.color(*plain), (0, 114, 178))
        x = (self.plot.place(3, 0)[0] + self.plot.place(4, 0)[0]) // 2
        self.assertEqual(self.color(x, self.plot.place(1, -1.5)[1]), (0xDD, 0xE7, 0xF0), "the null's band")
        self.assertEqual(self.color(x, self.plot.place(1, 6)[1]), (255, 255, 255))

    def test_a_click_jumps(self):
        place = qt.QPointF(*self.plot.place(2, 9.0))
        button = qt.Qt.LeftButton
        press = qt.QMouseEvent(qt.QEvent.MouseButtonPress, place, place, button, button, qt.Qt.NoModifier)
        slicer.app.sendEvent(self.plot, press)
        self.assertIn("slice 2 · copy", self.ui.volumeLabel.text)
        self.assertEqual(self.ui.sliceDecisionLabel.text, "Slice 2:")

    def test_the_shown_slice_is_marked(self):
        x, _y = self.plot.place(4, 0)
        self.assertEqual(self.color(x, self.plot.place(4, 5)[1]), (0, 158, 115))

    def test_without_calibration(self):
        slices = {k: {"mi": "", "oni": "", "p_value": ""} for k in (1, 2)}
        self.showResult({"v": {"mi": "", "p_value": "", "verdict": "uncalibrated"}}, {"v": slices})
        self.assertEqual(self.color(*self.plot.place(1, 0.9)), (0, 114, 178), "similarity is shown instead")
        self.assertNotIn("nan", self.ui.volumeLabel.text)


class ViewTest(PanelTestCase):
    def setUp(self):
        super().setUp()
        if slicer.app.layoutManager() is None:
            raise unittest.SkipTest("there are no views without a main window")
        self.nodes = self.threeVolumes()
        self.sliceNode = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
        self.sliceNode.SetOrientation("Axial")

    def test_views_go_where_the_panel_goes(self):
        self.panel.results.jump(2)
        self.assertAlmostEqual(self.sliceNode.GetSliceOffset(), 2)

    def test_the_panel_goes_where_a_view_goes(self):
        self.sliceNode.SetSliceOffset(3)
        self.assertEqual(self.ui.sliceDecisionLabel.text, "Slice 3:")
        self.sliceNode.SetSliceOffset(0)
        self.assertEqual(self.ui.sliceDecisionLabel.text, "Slice 3:", "slice 0 was not scored")

    def test_overlay(self):
        self.assertTrue(self.panel.display.overlay.enabled)
        self.ui.overlayCheckBox.click()
        self.assertFalse(self.panel.display.overlay.enabled)
        self.assertFalse(self.logic.getParameterNode().overlay)


class KeyTest(PanelTestCase):
    def setUp(self):
        super().setUp()
        self.threeVolumes()
        self.widget.parent.show()
        self.addCleanup(self.widget.parent.hide)
        if not hasattr(qt, "QTest"):
            raise unittest.SkipTest("keys that reach shortcuts cannot be sent here")
        self.widget.parent.activateWindow()
        slicer.app.processEvents()

    def press(self, name):
        key, modifier = KEYS[name].rpartition("+")[2], qt.Qt.AltModifier
        code = getattr(qt.Qt, f"Key_{key}")
        qt.QTest.keyClick(self.ui.worklistTable, code, modifier)

    def test_slices(self):
        self.press("previousFlagged")
        self.assertEqual(self.ui.sliceDecisionLabel.text, "Slice 2:")
        self.press("previousFlagged")
        self.assertIn("no further flagged slice", self.ui.statusLabel.text)
        self.press("nextFlagged")
        self.assertEqual(self.ui.sliceDecisionLabel.text, "Slice 4:")

    def test_volumes(self):
        chosen = []
        for name in ("nextVolume", "nextVolume", "nextVolume", "previousVolume"):
            self.press(name)
            chosen.append(self.panel.results.worklist.chosen)
        self.assertEqual(chosen, ["first", "second", "second", "first"])

    def test_decisions(self):
        decided = []
        for name in ("copy", "notCopy", "unsure"):
            self.press(name)
            decided.append(self.logic.review.decisionOf("third")["decision"])
        self.assertEqual(decided, ["copy", "not a copy", "unsure"])

    def test_overlay(self):
        self.press("overlay")
        self.assertFalse(self.ui.overlayCheckBox.checked)

    def test_keys_sleep_while_the_panel_is_hidden(self):
        other = qt.QWidget()
        other.show()
        self.widget.parent.hide()
        slicer.app.processEvents()
        qt.QTest.keyClick(other, qt.Qt.Key_1, qt.Qt.AltModifier)
        self.assertIsNone(self.logic.review.decisionOf("third"))

    def test_no_clash_with_slicer(self):
        # "Mouse & Keyboard Shortcuts" in Slicer's user guide, and the menus' mnemonics.
        plain = [*"bfvrgt[]{}+-", "Left", "Right", "Up", "Down", "End", "Home", "PgUp", "PgDown", "Ins", "Tab", "Esc"]
        control = [f"Ctrl+{key}" for key in [*"FOSW012345`HBGVAZYCX"]]
        menus = [f"Alt+{key}" for key in "FEVH"]
        self.assertEqual(set(KEYS.values()) & {*plain, *control, *menus, *(f"Shift+{key}" for key in plain)}, set())
        self.assertEqual(len(set(KEYS.values())), len(KEYS))

    def test_keys_are_listed(self):
        keys = Shortcuts.texts(self.panel._actions())
        self.assertEqual(len(keys), len(KEYS))
        self.assertIn("Alt+→", keys)
        for key in keys:
            self.assertIn(key, self.ui.shortcutsLabel.text)
            self.assertIn(key, slicer.modules.memorizationindex.helpText)


if __name__ == "__main__":
    unittest.main()
