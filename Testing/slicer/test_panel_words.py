"""The library's messages in the panel's words: no option of the command line, no file of a reference's inside."""

import hashlib
import json
import unittest

from memorization_index.bundle import check_place, check_result_place, read_manifest
from memorization_index.errors import MemorizationIndexError
from memorization_index.pseudonyms import Key
from MemorizationIndexLib.PanelWords import inPanelWords
from panelsupport import PanelTestCase
from testsupport import NEW, addVolume, sharedReference, waitUntil


class PanelWordsTest(PanelTestCase):
    def said(self, function, *arguments):
        with self.assertRaises(MemorizationIndexError) as caught:
            function(*arguments)
        return self.checked(str(caught.exception))

    def checked(self, message):
        words = inPanelWords(message)
        self.assertNotIn("--", words)
        self.assertNotIn("manifest", words)
        self.assertNotIn("memorization-index", words)
        return words

    def test_folders(self):
        for name, content in (("note.txt", "x"), ("manifest.json", "{}")):
            path = self.folder / f"holds {content}" / name
            path.parent.mkdir()
            path.write_text(content)
            self.assertIn("choose another folder", self.said(check_place, path.parent))
            self.assertIn("choose another folder", self.said(check_result_place, path.parent))
            self.assertIn("choose another folder", self.said(check_place, path))

    def test_references(self):
        folder = self.folder / "reference"
        folder.mkdir()
        self.assertIn("expected the folder that Build wrote", self.said(read_manifest, folder))
        for kind in ("other", "memorization-index reference"):
            for schema in (1, 999):
                text = json.dumps({"kind": kind, "schema": schema}).encode()
                (folder / "manifest.json").write_bytes(text)
                for checksum in (hashlib.sha256(text).hexdigest(), "0"):
                    (folder / "manifest.json.sha256").write_bytes(f"{checksum}  manifest.json\n".encode())
                    self.assertIn(str(folder), self.said(read_manifest, folder))

    def test_keys(self):
        path = self.folder / "our.key"
        self.assertRegex(self.said(Key.load, path), "^Key file .*our.key: ")
        path.write_text("no key")
        path.chmod(0o600)
        self.said(Key.load, path)

    def test_training_files_that_are_gone(self):
        shared = sharedReference()
        training, moved = shared / "training", shared / "moved"
        training.rename(moved)
        self.addCleanup(moved.rename, training)
        said = []
        self.logic.score([addVolume(NEW, "new")], shared / "reference")
        self.logic.startScoring([addVolume(NEW, "new")], shared / "reference", onEvent=said.append)
        self.logic.wait()
        warnings = [event["message"] for event in said if event["event"] == "warning"]
        self.assertTrue(warnings)
        for warning in warnings:
            self.assertEqual(self.checked(warning), warning, "already in the panel's words")
        self.assertIn("under Advanced › Training files", " ".join(warnings))

    def test_in_the_panel(self):
        folder = self.folder / "full"
        folder.mkdir()
        (folder / "note.txt").write_text("x")
        nodes = [addVolume(NEW, name) for name in "abc"]
        self.check(self.ui.trainingSelector, *nodes)
        self.ui.referencePath.currentPath = str(folder)
        self.click(self.ui.buildButton)
        waitUntil(lambda: not self.logic.busy, 60)
        self.assertIn("choose another folder", self.ui.buildStatusLabel.text)
        self.assertIn("is not a reference", self.ui.referenceInfoLabel.text)
        self.checked(self.ui.referenceInfoLabel.text)


if __name__ == "__main__":
    unittest.main()
