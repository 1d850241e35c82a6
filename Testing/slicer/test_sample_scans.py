"""The sample data: what is registered is what the repository holds, and the tutorial's answers come of it."""

import hashlib
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import slicer
from MemorizationIndexLib import MemorizationIndexLogic, registerSampleScans
from testsupport import SceneTestCase

FILES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"


class SampleDataLogic:
    """Slicer's signature; keeps what is registered."""

    registered = None

    @classmethod
    def registerCustomSampleDataSource(
        cls,
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        cls.registered = (sampleName, uris, fileNames, nodeNames, checksums, thumbnailFileName)


class SampleScansTest(SceneTestCase):
    def setUp(self):
        super().setUp()
        if not FILES.is_dir():
            self.skipTest(f"the repository's {FILES} is not installed with the module")
        module = types.ModuleType("SampleData")
        module.SampleDataLogic = SampleDataLogic
        self.enterContext(mock.patch.dict(sys.modules, SampleData=module))
        registerSampleScans()

    def test_checksums_are_those_of_the_repositorys_files(self):
        _name, uris, fileNames, nodeNames, checksums, thumbnail = SampleDataLogic.registered
        self.assertEqual(len({len(uris), len(fileNames), len(nodeNames), len(checksums)}), 1)
        self.assertEqual({Path(uri).name for uri in uris}, {path.name for path in FILES.iterdir()})
        for uri, checksum in zip(uris, checksums, strict=True):
            path = FILES / uri.rpartition("/")[2]
            self.assertEqual(checksum, f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}", path.name)
        self.assertTrue(Path(thumbnail).is_file())

    def test_the_answers_of_the_tutorial(self):
        nodes = {name: slicer.util.loadVolume(str(FILES / f"{name}.nrrd")) for name in SampleDataLogic.registered[3]}
        training = [node for name, node in nodes.items() if name.startswith("Training")]
        logic = MemorizationIndexLogic()
        logic.build(training, self.folder / "reference")
        logic.score([nodes["Synthetic1"], nodes["Synthetic2"]], self.folder / "reference")
        verdicts = [nodes[name].GetAttribute("MemorizationIndex.Verdict") for name in ("Synthetic1", "Synthetic2")]
        self.assertEqual(verdicts[0], "copy")
        self.assertNotEqual(verdicts[1], "copy")
        self.assertIs(nodes["Synthetic1"].GetNodeReference("MemorizationIndexMatch"), nodes["Training3"])

    def test_they_are_offered_when_the_application_has_started(self):
        SampleDataLogic.registered = None
        slicer.app.startupCompleted.emit()
        self.assertEqual(SampleDataLogic.registered[0], "Training and synthetic heads")


if __name__ == "__main__":
    unittest.main()
