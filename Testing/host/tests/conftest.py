"""Puts these tests on the host (``Testing/host``)."""

import sys
from pathlib import Path

# Before Testing is on the path: slicer-core takes every folder called "slicer" on it for a part of itself.
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from host.plugin import *  # noqa: F403 (hooks and fixtures; found through the line above)
from host.plugin import _exceptions_fail  # noqa: F401

assert slicer
