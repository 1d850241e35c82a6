"""pytest on the host: starts it, loads the module, and lets no exception in a slot or observer pass unseen."""

import gc
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")  # the same pixels with and without a GPU

import host

MODULE_FILE = Path(__file__).resolve().parents[2] / "MemorizationIndex" / "MemorizationIndex.py"
# Tests for the application find their helpers beside them.
sys.path.insert(0, str(MODULE_FILE.parents[1] / "Testing" / "slicer"))


def pytest_configure(config):
    host.loadModule(MODULE_FILE)


def pytest_unconfigure(config):
    import slicer

    slicer.modules.memorizationindex.unload()
    gc.collect()
    host.shutdown()


@pytest.fixture(autouse=True)
def _exceptions_fail(monkeypatch):
    """Qt and VTK hand exceptions of slots and observers to ``sys.excepthook`` and go on; a test must not."""
    caught = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: caught.append(value))
    yield
    if caught:
        raise caught[0]
