"""A scored scene, saved and opened by another process, shows the result again without computing it."""

import json
import subprocess
import unittest
from pathlib import Path

import numpy as np
import slicer
from test_logic import LogicTestCase
from testsupport import TRAINING, addVolume, column


class SavedSceneTest(LogicTestCase):
    def test_everything_is_there_and_linked(self):
        copy, new = addVolume(TRAINING[2], "脑 copy"), addVolume(TRAINING[2][:, ::-1][:, :30], "part")
        volumes, slices = self.logic.score([copy, new], self.reference)
        self.logic.loadMatch(copy)
        bundle = self.folder / "scene.mrb"
        self.assertTrue(slicer.util.saveScene(str(bundle)))
        seen = self.openElsewhere(bundle)
        self.assertEqual(seen["verdict"], copy.GetAttribute("MemorizationIndex.Verdict"))
        self.assertEqual(seen["match"], "training2")
        self.assertEqual(seen["matchOf"], "脑 copy")
        self.assertEqual(seen["referenceFolder"], str(self.reference))
        self.assertEqual(seen["volumes"], [copy.GetName(), new.GetName()])
        self.assertEqual(seen["types"], ["string", "double"])
        for table, name in ((volumes, "volumeTable"), (slices, "sliceTable")):
            for key, values in seen[name].items():
                if isinstance(values[0], float):  # MRML saves six digits
                    np.testing.assert_allclose(values, column(table, key), rtol=1e-5, err_msg=key)
                else:
                    self.assertEqual(values, column(table, key), key)

    def openElsewhere(self, bundle):
        module = Path(slicer.util.modulePath("MemorizationIndex")).parent
        answer = self.folder / "answer.json"
        command = [slicer.app.launcherExecutableFilePath, "--testing", "--no-splash", "--no-main-window"]
        command += ["--additional-module-paths", str(module), "--python-script"]
        command += [str(Path(__file__).with_name("describe_scene.py")), str(bundle), str(answer)]
        subprocess.run(command, check=True, timeout=120)
        return json.loads(answer.read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
