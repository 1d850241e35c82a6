"""The result's files in the scene: what is read is what was kept, and one file of many costs about one file."""

import base64
import time
import unittest

import numpy as np
import slicer
from MemorizationIndexLib import ResultFiles
from testsupport import SceneTestCase

COUNT = 500


class ResultFilesTest(SceneTestCase):
    def kept(self, contents):
        """A text node that holds files of these contents (bytes by name)."""
        for name, content in contents.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(content)
        steps = ResultFiles.keeping(self.folder)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value

    def test_every_file_comes_back(self):
        random = np.random.default_rng(0)
        contents = {f"agreement/{size:04d}.nrrd": random.bytes(size) for size in range(12)}
        contents |= {"run.json": b"{}", "slices.csv": b"volume,slice\n" * 5000}
        files = ResultFiles(self.kept(contents))
        self.assertEqual({name: files.read(name) for name in files.names()}, contents)
        self.assertIsNone(files.read("missing"))

    def test_without_a_node_there_is_no_file(self):
        self.assertEqual(ResultFiles(None).names(), [])
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", "empty")
        self.assertIsNone(ResultFiles(empty).read("run.json"))

    def test_one_of_many_is_read_without_decoding_all(self):
        random = np.random.default_rng(0)
        contents = {f"agreement/{number:04d}.nrrd": random.bytes(60_000) for number in range(COUNT)}
        node = self.kept(contents)
        files, name = ResultFiles(node), "agreement/0250.nrrd"
        one, whole = [], []
        for _round in range(5):
            started = time.process_time()
            self.assertEqual(files.read(name), contents[name])
            between = time.process_time()
            base64.b64decode(node.GetText())
            one.append(between - started)
            whole.append(time.process_time() - between)
        print(f"one of {COUNT} files: {1000 * min(one):.0f} ms, all: {1000 * min(whole):.0f} ms of processor time")
        self.assertLess(min(one), 0.5 * min(whole))


if __name__ == "__main__":
    unittest.main()
