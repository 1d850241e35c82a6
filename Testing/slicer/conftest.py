"""Puts these tests on the host (``Testing/host``)."""

import sys
from pathlib import Path

import slicer  # before Testing is on the path: slicer-core takes every folder called "slicer" on it for a part of itself

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from host.plugin import *  # noqa: E402, F403 (hooks and fixtures; found through the line above)
from host.plugin import _exceptions_fail  # noqa: E402, F401

assert slicer
