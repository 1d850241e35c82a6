"""Takes the pictures of the panel and of the views that the documentation shows, on this host.

``python Testing/host/screenshots.py``. They are written by the tests that compare them afterwards; look at them. Their
volumes are made up by a generator; nobody's scan is shown.
"""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent / "tests"

if __name__ == "__main__":
    environment = {**os.environ, "MEMORIZATION_INDEX_SCREENSHOTS": "write"}
    files = sorted(TESTS.glob("test_*screenshots.py"))
    sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-q", *files], env=environment, check=False).returncode)
