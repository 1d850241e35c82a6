"""Scene in, scene out: works from a script, without any widget."""

import os
import shutil
import tempfile
from pathlib import Path

import slicer
from memorization_index.errors import MemorizationIndexError
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Installer import Installer
from .Job import Job
from .Parameter import Parameter
from .Results import Results
from .TrainingVolumes import TrainingVolumes
from .VolumeWriter import VolumeWriter

#: The folder that holds the module, ``MemorizationIndexLib`` and ``memorization_index``.
_MODULE_FOLDER = Path(__file__).resolve().parent.parent


class MemorizationIndexLogic(ScriptedLoadableModuleLogic):
    """Scores volumes of the scene against a reference, and builds references from volumes of the scene.

    The work is done by a worker process. ``score`` and ``build`` return when it is done and raise
    ``MemorizationIndexError`` (one sentence) when it fails; ``startScoring`` and ``startBuilding`` return at once and
    call ``onEvent(event)`` and ``onFinished(outcome, message)`` (see :class:`Job`). One run at a time.
    """

    def __init__(self):
        super().__init__()
        self.installer = Installer(_MODULE_FOLDER / "Resources" / "requirements.txt")
        self._job, self._folder, self._observer = None, None, None

    def getParameterNode(self):
        """The parameters and results that are kept in the scene."""
        return Parameter(super().getParameterNode())

    @property
    def busy(self):
        """Whether a worker is running."""
        return self._job is not None

    # --- Score -------------------------------------------------------------------------------------------------------

    def score(self, volumeNodes, referenceFolder, trainingFolder=None):
        """Score volume nodes against a reference; returns the volume table and the slice table (table nodes)."""
        self._wait(self.startScoring, volumeNodes, referenceFolder, trainingFolder)
        parameter = self.getParameterNode()
        return parameter.volumeTable, parameter.sliceTable

    def startScoring(self, volumeNodes, referenceFolder, trainingFolder=None, onEvent=None, onFinished=None):
        """Begin to score; the results are in the scene when ``onFinished("done", "")`` is called.

        ``trainingFolder`` is where the training files are now, if not where they were at build time. Volumes that
        cannot be scored are listed in the volume table, with the reason.
        """
        folder = self._begin(referenceFolder)
        try:
            queries, table = self._write(folder / "queries", volumeNodes)
            trainingNodes = TrainingVolumes(referenceFolder).inScene()
            arguments = ["score", Path(referenceFolder).absolute(), table, "--out", folder / "scores"]
            arguments += self._trainingRoot(folder, trainingNodes, trainingFolder)
        except BaseException:
            self._end()
            raise

        def finish():
            parameter = self.getParameterNode()
            parameter.referenceFolder = Path(referenceFolder)
            parameter.trainingFolder = _chosen(trainingFolder) or Path()
            parameter.volumes = _present(queries.written)
            results = Results(parameter)
            results.show(folder / "scores", queries.written, queries.skipped)
            results.link(trainingNodes)

        self._start(arguments, queries, finish, onEvent, onFinished)

    def loadMatch(self, volumeNode, trainingFolder=None):
        """Load the training volume that ``volumeNode`` matches, refer to it, and return its node."""
        name = volumeNode.GetAttribute("MemorizationIndex.MatchVolume")
        if not name:
            raise MemorizationIndexError(
                _("{name}: has no matched training volume; score it first.").format(name=volumeNode.GetName())
            )
        parameter = self.getParameterNode()
        node = TrainingVolumes(parameter.referenceFolder).load(name, _chosen(trainingFolder))
        Results(parameter).link({name: node})
        return node

    # --- Build -------------------------------------------------------------------------------------------------------

    def build(self, trainingNodes, referenceFolder, subjects=None, plane="axial"):
        """Build a reference from training volume nodes; returns its folder."""
        self._wait(self.startBuilding, trainingNodes, referenceFolder, subjects, plane)
        return Path(referenceFolder)

    def startBuilding(
        self, trainingNodes, referenceFolder, subjects=None, plane="axial", onEvent=None, onFinished=None
    ):
        """Begin to build. ``subjects``: one a node; else the subject hierarchy's patients, else every node its own."""
        folder = self._begin(referenceFolder)
        try:
            subjects = subjects or [_patient(node) for node in trainingNodes]
            training, table = self._write(folder / "training", trainingNodes, subjects)
        except BaseException:
            self._end()
            raise

        def finish():
            parameter = self.getParameterNode()
            parameter.referenceFolder, parameter.plane = Path(referenceFolder), plane
            parameter.trainingVolumes = _present(training.written)
            TrainingVolumes(referenceFolder).mark(training.written)

        arguments = ["build", table, "--out", Path(referenceFolder).absolute(), "--plane", plane]
        self._start(arguments, training, finish, onEvent, onFinished)

    # --- The run -----------------------------------------------------------------------------------------------------

    def stop(self):
        """Stop the running worker; returns at once, ``onFinished("stopped", "")`` follows."""
        if self._job:
            self._job.stop()

    def wait(self):
        """Return when no worker is running."""
        if self._job:
            self._job.wait()

    def _begin(self, referenceFolder):
        if self.busy:
            raise MemorizationIndexError(_("A run is going on; wait for it or stop it first."))
        if self.installer.missing():
            raise MemorizationIndexError(self.installer.consentLine())
        if not _chosen(referenceFolder):
            raise MemorizationIndexError(_("No reference is chosen; choose the folder of one, or build one."))
        self._folder = Path(tempfile.mkdtemp(prefix="MemorizationIndex-", dir=slicer.app.temporaryPath))
        return self._folder

    def _write(self, folder, nodes, subjects=None):
        """Write volumes for the worker: the writer and the path of the table it wrote."""
        writer = VolumeWriter(folder)
        table = writer.write(nodes, subjects)
        if not writer.written:
            reasons = " ".join(writer.skipped.values())
            raise MemorizationIndexError(reasons or _("No volume is chosen; choose at least one."))
        return writer, table

    def _trainingRoot(self, folder, trainingNodes, trainingFolder):
        """Where the worker finds the training images: the user's folder, or what is in the scene, else as built."""
        if _chosen(trainingFolder):
            return ["--training-root", Path(trainingFolder).absolute()]
        if not trainingNodes:
            return []
        VolumeWriter(folder / "training").writeNamed(trainingNodes)
        return ["--training-root", folder / "training"]

    def _start(self, arguments, writer, finish, onEvent, onFinished):
        def handleEvent(event):
            if event["event"] == "skipped":
                writer.skip(Path(event["path"]), event["reason"])
            if onEvent:
                onEvent(event)

        def handleFinish(outcome, message):
            if outcome == "done":
                outcome, message = _attempt(finish)
            self._end()
            if onFinished:
                onFinished(outcome, message)

        self._job = Job(handleEvent, handleFinish)
        self._observer = slicer.mrmlScene.AddObserver(slicer.mrmlScene.StartCloseEvent, lambda *_event: self.stop())
        paths = [str(_MODULE_FOLDER), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = ["-m", "memorization_index", *arguments, "--json", "--watch-stdin"]
        self._job.start(shutil.which("PythonSlicer") or "PythonSlicer", command, environment, self._folder)

    def _end(self):
        if self._observer is not None:
            slicer.mrmlScene.RemoveObserver(self._observer)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._job, self._folder, self._observer = None, None, None

    def _wait(self, start, *arguments):
        outcome = []
        start(*arguments, onFinished=lambda *result: outcome.append(result))
        self.wait()
        [(state, message)] = outcome
        if state != "done":
            raise MemorizationIndexError(message or _("The run was stopped."))


def _chosen(folder):
    """The folder, or None where the user chose none (an empty path, which reads ".")."""
    return None if folder is None or Path(folder) == Path() else Path(folder)


def _present(nodes):
    """The nodes of ``{name: node}`` that are still in the scene."""
    return [node for node in nodes.values() if slicer.mrmlScene.IsNodePresent(node)]


def _attempt(finish):
    """Put a finished run's results into the scene: an outcome like a job's."""
    try:
        finish()
    except (OSError, ValueError, KeyError) as error:
        return "failed", _("The results cannot be read: {reason}").format(reason=error)
    return "done", ""


def _patient(node):
    """The patient that the subject hierarchy puts a volume under, or None."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node)
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return hierarchy.GetItemName(patient) if patient else None
