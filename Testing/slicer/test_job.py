"""The worker process: started, listened to, and stopped for certain, with a launcher in between as in Slicer."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import slicer
from MemorizationIndexLib import Job
from testsupport import isAlive, waitUntil

STAND_IN = Path(__file__).with_name("stand_in_worker.py")


class JobTest(unittest.TestCase):
    def start(self, mode, stopTimeout=3000, program=None):
        self.events, self.ends = [], []
        job = Job(self.events.append, lambda *end: self.ends.append(end), stopTimeout)
        program = program or shutil.which("PythonSlicer")
        job.start(program, [STAND_IN, mode], dict(os.environ), tempfile.gettempdir())
        self.addCleanup(job.process.kill)
        return job

    def pid(self):
        """The real worker's process number, once it runs."""
        waitUntil(lambda: any(event["event"] == "start" for event in self.events))
        return self.events[0]["pid"]

    def test_events_arrive_whole_and_noise_does_not(self):
        job = self.start("done")
        job.wait()
        self.assertEqual(self.ends, [("done", "")])
        self.assertEqual([event["event"] for event in self.events], ["start", "progress", "warning", "done"])
        self.assertEqual(self.events[1]["stage"], "schön")
        self.assertEqual(self.events[2]["message"], "日本語")

    def test_the_process_started_is_a_launcher(self):
        job = self.start("obedient")
        self.assertNotEqual(self.pid(), job.process.processId())
        job.stop()
        job.wait()

    def test_stop_ends_the_real_worker(self):
        job = self.start("obedient")
        pid = self.pid()
        started = time.monotonic()
        job.stop()
        job.stop()  # impatience changes nothing
        self.assertLess(time.monotonic() - started, 0.1, "stop must not wait")
        job.wait()
        self.assertLess(time.monotonic() - started, 3)
        self.assertFalse(isAlive(pid))
        self.assertEqual(self.ends, [("stopped", "")])

    def test_a_worker_that_does_not_listen_is_killed(self):
        job = self.start("stubborn", stopTimeout=500)
        pid = self.pid()
        job.stop()
        job.wait()
        waitUntil(lambda: not isAlive(pid), seconds=5)
        self.assertEqual(self.ends, [("stopped", "")])

    def test_when_the_launcher_dies_the_worker_ends(self):
        job = self.start("obedient")
        pid = self.pid()
        os.kill(job.process.processId(), getattr(signal, "SIGKILL", signal.SIGTERM))
        job.wait()
        self.assertEqual(self.ends[0][0], "failed")
        waitUntil(lambda: not isAlive(pid), seconds=5)

    def test_when_slicer_dies_the_worker_ends(self):
        module = Path(slicer.util.modulePath("MemorizationIndex")).parent
        script = Path(__file__).with_name("dying_application.py")
        command = [slicer.app.launcherExecutableFilePath, "--testing", "--no-splash", "--no-main-window"]
        command += ["--additional-module-paths", str(module), "--python-script", str(script)]
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "pid"
            environment = {**os.environ, "TMPDIR": folder}  # it dies before it can tidy up
            subprocess.run([*command, str(note)], timeout=120, check=False, env=environment)
            pid = int(note.read_text())
        waitUntil(lambda: not isAlive(pid), seconds=5)

    def test_a_refusal_is_handed_on(self):
        job = self.start("refuse")
        job.wait()
        self.assertEqual(self.ends, [("failed", "reference: is not there; choose another.")])

    def test_a_crash_says_why(self):
        job = self.start("crash")
        job.wait()
        [(outcome, message)] = self.ends
        self.assertEqual(outcome, "failed")
        self.assertIn("out of cheese", message)

    def test_a_program_that_is_not_there(self):
        job = self.start("done", program="no-such-PythonSlicer")
        job.wait()
        [(outcome, message)] = self.ends
        self.assertEqual(outcome, "failed")
        self.assertIn("could not be started", message)


if __name__ == "__main__":
    unittest.main()
