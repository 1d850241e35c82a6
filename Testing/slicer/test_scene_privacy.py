"""A scene that is saved after a run against a pseudonymized reference names no training subject."""

import hashlib
import shutil
import sys
import unittest
from pathlib import Path

import slicer
from memorization_index.cli import main
from memorization_index.volumes import read_volume
from test_logic import LogicTestCase
from testsupport import NEW, TRAINING, addVolume, sharedReference

sys.path.append(str(Path(__file__).resolve().parents[1] / "library"))
from leaks import leaks

WARD = "ward-Elm-Street"
NAMES = [f"training{number}" for number in range(len(TRAINING))]


class ScenePrivacyTest(LogicTestCase):
    def build(self):
        """A pseudonymized reference in a folder whose own name says something."""
        home = self.folder / WARD
        self.training, self.key, self.reference = home / "scans", home / "reference.key", home / "reference"
        shutil.copytree(sharedReference() / "training", self.training)
        table = next(self.training.glob("*.csv"))
        arguments = ["--plane", "axial", "--power", "none", "--pseudonymize", "--key", str(self.key)]
        self.assertEqual(main(["build", str(table), "--out", str(self.reference), *arguments]), 0)
        slicer.mrmlScene.Clear(0)

    def test_scene_names_no_training_subject(self):
        self.build()
        nodes = [addVolume(TRAINING[2][:, :, ::-1], "first"), addVolume(NEW, "second")]
        self.logic.score(nodes, self.reference, self.training, keyFile=self.key)
        self.assertEqual(nodes[0].GetAttribute("MemorizationIndex.Verdict"), "copy")
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        files = sorted(self.training.glob("*.nrrd"))
        prints = [read_volume(path).fingerprint for path in files]
        sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        key = self.key.read_text(encoding="utf-8").split()[-1]
        self.assertEqual(leaks([bundle], [*NAMES, *(path.name for path in files), *prints, *sums, key]), [])
        # What it does keep, so that the scene can be worked on again, are the folders that were chosen in the panel.
        self.assertTrue(leaks([bundle], [WARD]))

    def test_search_finds_them_where_nothing_hides_them(self):
        nodes = [addVolume(TRAINING[2][:, :, ::-1], "first"), addVolume(NEW, "second")]
        self.logic.score(nodes, sharedReference() / "reference")
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        self.assertTrue(any("training2" in line for line in leaks([bundle], ["training2"])))


if __name__ == "__main__":
    unittest.main()
