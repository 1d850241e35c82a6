"""Run by a second Slicer: starts a worker, notes its process number and dies without a word."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import slicer
from MemorizationIndexLib import Job

events = []
job = Job(events.append, lambda *_end: None)
stand_in = Path(__file__).with_name("stand_in_worker.py")
job.start(shutil.which("PythonSlicer"), [stand_in, "obedient"], dict(os.environ), tempfile.gettempdir())
while not events:
    job.process.waitForReadyRead(50)
    slicer.app.processEvents()
Path(sys.argv[1]).write_text(str(events[0]["pid"]))
os._exit(1)
