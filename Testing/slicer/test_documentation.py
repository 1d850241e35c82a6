"""The script in docs/slicer.md does what the page says."""

import contextlib
import io
import re
import shutil
import unittest
from pathlib import Path

import slicer
from testsupport import SceneTestCase

PAGE = Path(__file__).resolve().parents[2] / "docs" / "slicer.md"


class DocumentationTest(SceneTestCase):
    def test_the_script_runs_when_pasted(self):
        self.addCleanup(shutil.rmtree, Path(slicer.app.temporaryPath) / "memorization-index-demo", ignore_errors=True)
        [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(script, str(PAGE), "exec"), {})
        first, second, third = printed.getvalue().splitlines()
        self.assertEqual(first, "mirrored copy -> copy")
        self.assertNotIn("copy", second.partition("->")[2])
        self.assertEqual(third, "copied from sub-003_T1w")


if __name__ == "__main__":
    unittest.main()
