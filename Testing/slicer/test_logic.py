"""The logic over the scene, with the real worker: results, links, refusals, interruptions. No widget takes part."""

import csv
import hashlib
import json
import shutil
import unittest
from pathlib import Path

import numpy as np
import slicer
from memorization_index import Reference
from memorization_index.errors import MemorizationIndexError
from MemorizationIndexLib import MemorizationIndexLogic, VolumeWriter
from testsupport import (
    NEW,
    TRAINING,
    SceneTestCase,
    addTransform,
    addVolume,
    column,
    isAlive,
    rotation,
    sharedReference,
    waitUntil,
)

PREFIX = "MemorizationIndex."


class LogicTestCase(SceneTestCase):
    """A reference that was built from files and that all tests share."""

    @classmethod
    def setUpClass(cls):
        cls.shared = sharedReference()
        cls.reference = cls.shared / "reference"

    def setUp(self):
        super().setUp()
        self.logic = MemorizationIndexLogic()
        self.addCleanup(self.logic.wait)
        self.addCleanup(self.logic.stop)

    def start(self, *nodes):
        """Begin to score; the worker's real process number once it runs."""
        self.events, self.ends = [], []
        self.logic.startScoring(
            nodes, self.reference, onEvent=self.events.append, onFinished=lambda *end: self.ends.append(end)
        )
        waitUntil(lambda: any(event["event"] == "start" for event in self.events))
        return next(event["pid"] for event in self.events if event["event"] == "start")

    def assertFails(self, run, *words):
        with self.assertRaises(MemorizationIndexError) as caught:
            run()
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertNoTemporaryFiles()


class ResultsTest(LogicTestCase):
    def test_the_same_numbers_as_the_library(self):
        nodes = [addVolume(TRAINING[2], "copy"), addVolume(NEW, "new")]
        volumes, slices = self.logic.score(nodes, self.reference)
        queries = VolumeWriter(self.folder / "queries").write(nodes)
        reference = Reference.open(self.reference)
        scores = reference.score([queries])
        # The worker adds in another order (one BLAS thread) and its tables have six digits: similarities agree to 1e-6.
        # MI is similarity divided by the null's deviation, ONI its hyperbolic tangent, and so is their tolerance.
        tolerances = dict.fromkeys(("mi", "mi_max", "oni"), 1e-6 / reference.null.smallest_deviation)
        for table, expected in ((volumes, scores.volumes), (slices, scores.slices)):
            for name in set(expected) - {"path"}:
                values = column(table, name)
                if isinstance(values[0], float):
                    np.testing.assert_allclose(
                        values,
                        np.asarray(expected[name], float),
                        rtol=1e-5,
                        atol=tolerances.get(name, 1e-6),
                        err_msg=name,
                    )
                else:
                    self.assertEqual(values, [str(value) for value in expected[name]], name)
        self.assertEqual(column(volumes, "verdict"), ["copy", "no evidence"])
        self.assertNoTemporaryFiles()

    def test_attributes_of_the_volumes(self):
        copy, new = addVolume(TRAINING[2], "copy"), addVolume(NEW, "new")
        volumes, _slices = self.logic.score([copy, new], self.reference)
        self.assertEqual(copy.GetAttribute(PREFIX + "Verdict"), "copy")
        self.assertEqual(copy.GetAttribute(PREFIX + "MatchVolume"), "training2")
        self.assertEqual(float(copy.GetAttribute(PREFIX + "MI")), column(volumes, "mi")[0])
        self.assertEqual(new.GetAttribute(PREFIX + "Verdict"), "no evidence")
        self.assertIsNone(new.GetAttribute(PREFIX + "Reason"))

    def test_a_second_run_replaces_the_first(self):
        first, second = addVolume(TRAINING[2], "first"), addVolume(TRAINING[3], "second")
        self.logic.score([first], self.reference)
        self.logic.loadMatch(first)
        count = slicer.mrmlScene.GetNumberOfNodes()
        volumes, slices = self.logic.score([second], self.reference)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)
        self.assertEqual(column(volumes, "volume"), ["second"])
        self.assertEqual(set(column(slices, "volume")), {"second"})
        self.assertIsNone(first.GetAttribute(PREFIX + "Verdict"))
        self.assertIsNone(first.GetNodeReference("MemorizationIndexMatch"))
        self.assertEqual(second.GetAttribute(PREFIX + "MatchVolume"), "training3")

    def test_the_parameter_node_holds_everything(self):
        copy = addVolume(TRAINING[2], "copy")
        volumes, slices = self.logic.score([copy], self.reference)
        parameter = MemorizationIndexLogic().getParameterNode()
        self.assertEqual(parameter.referenceFolder, self.reference)
        self.assertEqual(list(parameter.volumes), [copy])
        self.assertIs(parameter.volumeTable, volumes)
        self.assertIs(parameter.sliceTable, slices)
        self.assertEqual(json.loads(volumes.GetAttribute(PREFIX + "Run"))["protocol"], "mi-v1")

    def test_names_that_repeat_or_are_not_ascii(self):
        nodes = [addVolume(TRAINING[1], "脑 ä"), addVolume(NEW, "脑 ä"), addVolume(TRAINING[4], 'a,"b"')]
        volumes, _slices = self.logic.score(nodes, self.reference)
        self.assertEqual(column(volumes, "volume"), ["脑 ä", "脑 ä_1", 'a,"b"'])
        self.assertEqual([node.GetAttribute(PREFIX + "Verdict") for node in nodes], ["copy", "no evidence", "copy"])


class GeometryTest(LogicTestCase):
    """A copy is found however the scene holds it: what counts is where voxels lie, not how they are stored."""

    def assertCopy(self, node, source="training2"):
        self.logic.score([node], self.reference)
        self.assertEqual(node.GetAttribute(PREFIX + "Verdict"), "copy")
        self.assertEqual(node.GetAttribute(PREFIX + "MatchVolume"), source)

    def test_voxel_types(self):
        for kind, scale in ((np.int16, 1), (np.uint8, 0.25), (np.float64, 1e-3)):
            with self.subTest(kind.__name__):
                slicer.mrmlScene.Clear(0)
                self.assertCopy(addVolume((TRAINING[2] * scale).clip(0, None).astype(kind), "copy"))

    def test_left_handed(self):
        flipped = np.eye(4)
        flipped[0, 0], flipped[0, 3] = -1, TRAINING[2].shape[2] - 1
        self.assertCopy(addVolume(TRAINING[2][:, :, ::-1], "copy", flipped))

    def test_axes_in_another_order(self):
        self.assertCopy(addVolume(TRAINING[2].transpose(2, 1, 0), "copy", np.eye(4)[[2, 1, 0, 3]]))

    def test_turned_back_by_a_transform(self):
        turn = rotation(90, (1, 0, 0))
        node = addVolume(TRAINING[2], "copy", np.linalg.inv(turn))
        node.SetAndObserveTransformNodeID(addTransform(turn).GetID())
        self.assertCopy(node)

    def test_oblique_and_anisotropic(self):
        thick = TRAINING[2][::3]
        node = addVolume(thick, "copy", rotation(8, (0, 0, 1)) @ np.diag([1, 1, 3, 1]))
        self.assertCopy(node)

    def test_a_volume_that_cannot_be_scored_is_listed(self):
        vector = slicer.util.addVolumeFromArray(
            np.zeros((3, 4, 5, 3), np.uint8), name="color", nodeClassName="vtkMRMLVectorVolumeNode"
        )
        volumes, _slices = self.logic.score([vector, addVolume(NEW, "new")], self.reference)
        self.assertEqual(column(volumes, "verdict"), ["no evidence", "skipped"])
        self.assertIn("scalar volumes", column(volumes, "reason")[1])

    def test_a_volume_that_the_worker_leaves_out_is_listed_by_name(self):
        blank = addVolume(np.zeros((5, 6, 7), np.int16), "blank")
        volumes, _slices = self.logic.score([blank, addVolume(NEW, "new")], self.reference)
        self.assertEqual(column(volumes, "verdict"), ["no evidence", "skipped"])
        self.assertIn("blank", column(volumes, "reason")[1])
        self.assertNotIn(".nrrd", column(volumes, "reason")[1])
        self.assertEqual(blank.GetAttribute(PREFIX + "Verdict"), "skipped")


class MatchTest(LogicTestCase):
    def test_loaded_from_its_file(self):
        copy = addVolume(TRAINING[2], "copy")
        self.logic.score([copy], self.reference)
        self.assertIsNone(copy.GetNodeReference("MemorizationIndexMatch"))
        match = self.logic.loadMatch(copy)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(match), TRAINING[2])
        self.assertEqual(match.GetName(), "training2")
        self.assertIs(copy.GetNodeReference("MemorizationIndexMatch"), match)
        self.assertIs(self.logic.loadMatch(copy), match, "loaded once")

    def test_found_where_the_files_are_now(self):
        moved = self.folder / "elsewhere" / "training"
        shutil.copytree(self.shared / "training", moved)
        original, hidden = self.shared / "training", self.shared / "hidden"
        original.rename(hidden)
        self.addCleanup(hidden.rename, original)
        copy = addVolume(TRAINING[2], "copy")
        self.logic.score([copy], self.reference)
        self.assertNotEqual(copy.GetAttribute(PREFIX + "Verdict"), "copy", "nothing to verify against")
        self.assertFails(lambda: self.logic.loadMatch(copy), "training2", "name the folder")
        self.logic.score([copy], self.reference, trainingFolder=moved)
        self.assertEqual(copy.GetAttribute(PREFIX + "Verdict"), "copy")
        self.assertEqual(self.logic.loadMatch(copy, trainingFolder=moved).GetName(), "training2")

    def test_before_any_score(self):
        self.assertFails(lambda: self.logic.loadMatch(addVolume(NEW, "new")), "new", "score it first")


class BuildTest(LogicTestCase):
    def test_built_from_the_scene_and_linked_in_the_scene(self):
        training = [addVolume(array, "scan") for array in TRAINING]
        reference = self.logic.build(training, self.folder / "reference")
        copy = addVolume(TRAINING[3], "copy")
        self.logic.score([copy], reference)
        self.assertEqual(copy.GetAttribute(PREFIX + "Verdict"), "copy")
        self.assertIs(copy.GetNodeReference("MemorizationIndexMatch"), training[3])
        self.assertIs(self.logic.loadMatch(copy), training[3])
        self.assertEqual(list(self.logic.getParameterNode().trainingVolumes), training)
        self.assertNoTemporaryFiles()

    def test_subjects(self):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        nodes = [addVolume(array, f"scan{i}") for i, array in enumerate(TRAINING[:4])]
        for person in (0, 1):
            patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), f"person {person}")
            study = hierarchy.CreateStudyItem(patient, "study")
            for node in nodes[2 * person : 2 * person + 2]:
                item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node)
                hierarchy.SetItemParent(item, study)
        for given, expected in ((None, ["person 0", "person 0", "person 1", "person 1"]), (list("abca"), list("abca"))):
            reference = self.logic.build(nodes, self.folder / "reference", subjects=given)
            with (reference / "volumes.csv").open(encoding="utf-8", newline="") as file:
                self.assertEqual([row["subject"] for row in csv.DictReader(file)], expected)


class RefusalTest(LogicTestCase):
    def test_no_volume(self):
        self.assertFails(lambda: self.logic.score([], self.reference), "No volume is chosen")

    def test_no_reference_chosen(self):
        self.assertFails(lambda: self.logic.score([addVolume(NEW, "new")], Path()), "No reference is chosen")

    def test_reference_missing(self):
        nowhere = self.folder / "nowhere"
        self.assertFails(lambda: self.logic.score([addVolume(NEW, "new")], nowhere), str(nowhere), "not a reference")

    def test_reference_changed(self):
        changed = self.folder / "changed"
        shutil.copytree(self.reference, changed)
        with (changed / "null.safetensors").open("ab") as file:
            file.write(b"x")
        self.assertFails(lambda: self.logic.score([addVolume(NEW, "new")], changed), "null.safetensors", "changed")

    def test_reference_of_an_encoder_that_is_not_here(self):
        other = self.folder / "other"
        shutil.copytree(self.reference, other)
        manifest = json.loads((other / "manifest.json").read_text(encoding="utf-8"))
        manifest["encoder"]["name"] = "mri-core"
        text = json.dumps(manifest)
        (other / "manifest.json").write_text(text, encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        (other / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n", encoding="utf-8")
        self.assertFails(lambda: self.logic.score([addVolume(NEW, "new")], other), "mri-core")

    def test_one_run_at_a_time(self):
        self.start(addVolume(NEW, "new"))
        with self.assertRaises(MemorizationIndexError):
            self.logic.startScoring([addVolume(NEW, "other")], self.reference)
        self.logic.wait()
        self.assertEqual(self.ends, [("done", "")])


class InterruptionTest(LogicTestCase):
    """What happens to the scene, to a volume or to the user's patience while the worker runs."""

    def test_stopped_then_run_again(self):
        nodes = [addVolume(TRAINING[i % 6], f"v{i}") for i in range(12)]
        pid = self.start(*nodes)
        self.assertTrue(isAlive(pid))
        self.logic.stop()
        self.logic.wait()
        self.assertEqual(self.ends, [("stopped", "")])
        waitUntil(lambda: not isAlive(pid), seconds=5)
        self.assertNoTemporaryFiles()
        self.assertIsNone(self.logic.getParameterNode().volumeTable)
        self.assertIsNone(nodes[0].GetAttribute(PREFIX + "Verdict"))
        self.logic.score(nodes[:1], self.reference)
        self.assertEqual(nodes[0].GetAttribute(PREFIX + "Verdict"), "copy")

    def test_a_stopped_build_leaves_nothing(self):
        ends, events = [], []
        nodes = [addVolume(array, f"training{i}") for i, array in enumerate(TRAINING)]
        target = self.folder / "reference"
        self.logic.startBuilding(nodes, target, onEvent=events.append, onFinished=lambda *end: ends.append(end))
        waitUntil(lambda: any(event["event"] == "progress" for event in events))
        self.logic.stop()
        self.logic.wait()
        self.assertEqual(ends, [("stopped", "")])
        self.assertFalse(target.exists())
        self.assertNoTemporaryFiles()
        self.logic.build(nodes, target)
        self.assertEqual(list(self.folder.iterdir()), [target])

    def test_a_volume_deleted_meanwhile(self):
        copy, other = addVolume(TRAINING[2], "copy"), addVolume(TRAINING[4], "other")
        self.start(copy, other)
        slicer.mrmlScene.RemoveNode(copy)
        self.logic.wait()
        self.assertEqual(self.ends, [("done", "")])
        parameter = self.logic.getParameterNode()
        self.assertEqual(column(parameter.volumeTable, "volume"), ["copy", "other"])
        self.assertEqual(list(parameter.volumes), [other])
        self.assertIsNone(copy.GetAttribute(PREFIX + "Verdict"))
        self.assertEqual(other.GetAttribute(PREFIX + "Verdict"), "copy")

    def test_the_scene_closed_meanwhile(self):
        pid = self.start(addVolume(TRAINING[2], "copy"))
        slicer.mrmlScene.Clear(0)
        self.logic.wait()
        self.assertEqual(self.ends, [("stopped", "")])
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode"), 0)
        waitUntil(lambda: not isAlive(pid), seconds=5)
        self.assertNoTemporaryFiles()

    def test_progress_is_told(self):
        self.start(addVolume(TRAINING[2], "copy"))
        self.logic.wait()
        stages = {event["stage"] for event in self.events if event["event"] == "progress"}
        self.assertGreaterEqual(len(stages), 2)


if __name__ == "__main__":
    unittest.main()
