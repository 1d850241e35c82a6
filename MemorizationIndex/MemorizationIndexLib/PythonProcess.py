"""One run of a Python module in Slicer's Python: ``PythonSlicer -m MODULE …``, followed line by line and stoppable."""

import contextlib
import os
import shutil
import signal

import qt
import slicer

# ``PythonSlicer`` is a launcher: the process that does the work is its child, whose number has to be told.
_TELL_PID = """
import os, runpy, sys
print(os.getpid(), flush=True)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class PythonProcess:
    """Runs ``module`` with ``arguments`` and calls ``onLine(text)`` for every line that it prints.

    The process inherits the application's environment, so that proxies and pip's own configuration hold;
    ``pythonPath`` is put before its PYTHONPATH where it is given.
    """

    def __init__(self, module, arguments, onLine, pythonPath=None):
        self._command = ["-c", _TELL_PID, module, *map(str, arguments)]
        self._onLine, self._pythonPath = onLine, pythonPath
        self._buffer, self._pid, self._stopped, self._failed = b"", None, False, False
        self.process = qt.QProcess()
        self.process.setProcessChannelMode(qt.QProcess.MergedChannels)
        self.process.connect("readyReadStandardOutput()", self._onOutput)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self._onError)

    def run(self):
        """Run to the end, the application staying alive; returns the exit code, or None where it was stopped."""
        if self._pythonPath:
            paths = os.pathsep.join(filter(None, [str(self._pythonPath), os.environ.get("PYTHONPATH", "")]))
            environment = {**os.environ, "PYTHONPATH": paths}
            self.process.setEnvironment([f"{name}={value}" for name, value in environment.items()])
        self.process.setWorkingDirectory(slicer.app.temporaryPath)
        self.process.start(shutil.which("PythonSlicer") or "PythonSlicer", self._command)
        while not self._failed and self.process.state() != qt.QProcess.NotRunning:
            self.process.waitForFinished(20)
            slicer.app.processEvents()
        self._onOutput()
        self._lines(self._buffer)
        if self._failed and not self._stopped:
            self._onLine(self.process.errorString())
            return -1
        return None if self._stopped else self.process.exitCode()

    def stop(self):
        """End it now."""
        self._stopped = True
        if self._pid is not None:
            with contextlib.suppress(OSError):  # it may have ended in the meantime
                os.kill(self._pid, signal.SIGTERM)
        self.process.kill()

    def _onOutput(self):
        self._buffer += bytes(self.process.readAllStandardOutput().data())
        complete, line, self._buffer = self._buffer.rpartition(b"\n")
        self._lines(complete + line)

    def _lines(self, output):
        for line in output.decode("utf-8", "replace").splitlines():
            if self._pid is None and line.strip().isdigit():
                self._pid = int(line)
                if self._stopped:  # asked to stop before it could be
                    self.stop()
            else:
                self._onLine(line)

    def _onError(self, error):
        if error == qt.QProcess.FailedToStart:
            self._failed = True
