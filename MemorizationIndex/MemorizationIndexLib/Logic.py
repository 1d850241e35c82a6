"""Scene in, scene out: works from a script, without any widget."""

import shutil
from pathlib import Path

import slicer
from memorization_index.bundle import read_manifest
from memorization_index.calibration import MINIMUM_SUBJECTS
from memorization_index.errors import MemorizationIndexError
from memorization_index.linking import linked_files
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from .Export import Export
from .Installer import Installer
from .PanelWords import inPanelWords
from .Parameter import Parameter
from .Results import Results
from .Review import Review
from .Run import MODULE_FOLDER, Run
from .ScenePreview import ScenePreview, patientOf
from .TrainingVolumes import TrainingVolumes
from .VolumeLoader import loadFile
from .VolumeWriter import VolumeWriter


class MemorizationIndexLogic(ScriptedLoadableModuleLogic):
    """Scores volumes of the scene, or files, against a reference, and builds references from either.

    The work is done by a worker process. ``score`` and ``build`` return when it is done and raise
    ``MemorizationIndexError`` (one sentence) when it fails; ``startScoring`` and ``startBuilding`` return at once and
    call ``onEvent(event)`` and ``onFinished(outcome, message)`` (see :class:`Job`). One run at a time.

    Wherever volumes are asked for, a list of volume nodes or the path of a folder, table or file will do.
    """

    def __init__(self):
        super().__init__()
        self.installer = Installer(MODULE_FOLDER / "Resources" / "requirements.txt")
        self.results = Results(self.getParameterNode)
        self.review = Review(self.results)
        self._run = None

    def getParameterNode(self):
        """The parameters and results that are kept in the scene."""
        return Parameter(super().getParameterNode())

    @property
    def busy(self):
        """Whether a run is going on."""
        return self._run is not None

    # --- Score -------------------------------------------------------------------------------------------------------

    def score(self, volumes, referenceFolder, trainingFolder=None, **encoder):
        """Score volumes against a reference; returns the volume table and the slice table (table nodes)."""
        self._wait(self.startScoring, volumes, referenceFolder, trainingFolder, **encoder)
        parameter = self.getParameterNode()
        return parameter.volumeTable, parameter.sliceTable

    def startScoring(
        self, volumes, referenceFolder, trainingFolder=None, weights=None, device="auto",
        onEvent=None, onFinished=None, keyFile=None,
    ):  # fmt: skip
        """Begin to score; the results are in the scene when ``onFinished("done", "")`` is called.

        ``trainingFolder`` is where the training files are now, if not where they were at build time; ``weights`` and
        ``device`` are of a deep encoder; ``keyFile`` is of a pseudonymized reference. Volumes that cannot
        be scored are listed in the volume table, with the reason.
        """
        run, queries, writing = self._begin(volumes, referenceFolder, None, onEvent, onFinished)
        training, given = TrainingVolumes(referenceFolder), _chosen(trainingFolder)
        fromScene = VolumeWriter(run.folder / "training")
        try:
            training.inScene()
        except BaseException:
            self._forget()
            raise

        def command():
            root = given.absolute() if given else fromScene.table if fromScene.written else None
            options = [*(["--training-root", root] if root else []), *_encoder(weights, device)]
            options += ["--key", Path(keyFile).absolute()] if root and _chosen(keyFile) else []
            options += ["--keep-paths"] if _areFiles(volumes) else []  # a chosen row is loaded from its file
            source = _source(volumes, queries)
            return ["score", Path(referenceFolder).absolute(), source, "--out", run.folder / "scores", *options]

        def showing():
            yield from self._showing(run.folder / "scores", volumes, queries)
            parameter = self.getParameterNode()
            parameter.referenceFolder = parameter.resultReference = Path(referenceFolder)
            parameter.trainingFolder, parameter.keyFile = given or Path(), _chosen(keyFile) or Path()
            self.results.link(training.inScene())

        run.start(_thenTraining(writing, training, None if given else fromScene), _count(volumes), command, showing)

    def _showing(self, folder, volumes, queries):
        """Generator: results into the scene; decisions stay with volumes that are still the same."""
        before = self.results.identities()
        yield from self.results.showing(folder, queries.written, queries.skipped, _areFiles(volumes))
        self.review.keep(before, self.results.identities())
        if not _areFiles(volumes):
            self.getParameterNode().volumes = _present(volumes)

    # --- What a result leads to --------------------------------------------------------------------------------------

    def loadVolume(self, name, load=loadFile):
        """The node of the scored volume called ``name``; ``load(path, name)`` gives it where a file was scored."""
        node = self.results.volumes().get(name)
        row = self.results.row(name)
        if node is None and row and row.get("path"):
            node = load(Path(row["path"]), name)
            self.results.adopt(name, node)
        if node is None:
            raise MemorizationIndexError(
                _("{name}: is not in the scene any more; load it and score it again.").format(name=name)
            )
        return node

    def trainingVolumes(self, locate=linked_files, load=loadFile):
        """The training volumes of the result's reference; for ``locate`` and ``load`` see :class:`TrainingVolumes`."""
        parameter = self.getParameterNode()
        return TrainingVolumes(self.results.reference, _chosen(parameter.keyFile), locate, load)

    def loadMatch(self, volumeNode, trainingFolder=None, locate=linked_files, load=loadFile):
        """Load the training volume that ``volumeNode`` matches, refer to it, and return its node."""
        name = volumeNode.GetAttribute("MemorizationIndex.MatchVolume")
        if not name:
            raise MemorizationIndexError(
                _("{name}: has no matched training volume; score it first.").format(name=volumeNode.GetName())
            )
        node = self.trainingVolumes(locate, load).load(name, _chosen(trainingFolder))
        self.results.link({name: node})
        return node

    def startExport(self, folder, onEvent=None, onFinished=None):
        """Begin to write the result with the reader's decisions, and its report, into ``folder``."""
        self._check()
        if not _chosen(folder):
            raise MemorizationIndexError(_("No folder is chosen; choose the one to write results to."))
        export = Export(self.results, self.review)
        self._run = Run(onEvent or _ignore, self._ending(onFinished))
        self._run.start(export.writing(Path(folder)), 1, lambda: ["report", Path(folder).absolute()])

    # --- Build -------------------------------------------------------------------------------------------------------

    def build(self, training, referenceFolder, subjects=None, plane="axial", **encoder):
        """Build a reference from training volumes; returns its folder."""
        self._wait(self.startBuilding, training, referenceFolder, subjects, plane, **encoder)
        return Path(referenceFolder)

    def startBuilding(
        self, training, referenceFolder, subjects=None, plane="axial", encoder="spectral", weights=None, device="auto",
        onEvent=None, onFinished=None,
    ):  # fmt: skip
        """Begin to build.

        ``subjects``: of nodes, one a node (else the subject hierarchy's patients, else every node its own); of files, a
        table or a pattern, as on the command line.
        """
        self._check()
        if not _chosen(referenceFolder):
            raise MemorizationIndexError(_("Name a new, empty folder under Reference folder."))
        of = None if _areFiles(training) else subjects or [patientOf(node) for node in training]
        if not _areFiles(training):
            onFinished = _thenForgetting(referenceFolder, onFinished)
        run, volumes, writing = self._begin(training, referenceFolder, of, onEvent, onFinished)

        def command():
            target = ["--out", Path(referenceFolder).absolute(), "--plane", plane, "--encoder", encoder]
            pattern = ["--subjects", subjects] if subjects and _areFiles(training) else []
            return ["build", _source(training, volumes), *target, *pattern, *_encoder(weights, device)]

        def showing():
            yield
            parameter = self.getParameterNode()
            parameter.referenceFolder, parameter.plane = Path(referenceFolder), plane
            if not _areFiles(training):
                parameter.trainingVolumes = _present(training)
                TrainingVolumes(referenceFolder).mark(volumes.written)

        run.start(writing, _count(training), command, showing)

    def startPreview(self, path, plane="axial", onEvent=None, onFinished=None):
        """Begin to look through a folder or table; the ``done`` event says what is there, ``skipped`` events what not.

        What is in the scene is told at once by :class:`ScenePreview`.
        """
        self._check()
        self._run = Run(onEvent or _ignore, self._ending(onFinished))
        self._run.start(iter(()), 0, lambda: ["preview", Path(path).absolute(), "--plane", plane])

    @staticmethod
    def previewOf(nodes, plane="axial"):
        """What would be made of volume nodes."""
        return ScenePreview(nodes, plane)

    @staticmethod
    def chosen(path):
        """The path, or None where the user chose none."""
        return _chosen(path)

    @classmethod
    def describeReference(cls, folder):
        """A reference in one line; what is wrong with the folder where it is none; empty where none is chosen."""
        if not _chosen(folder):
            return ""
        if Path(folder).is_file():
            return _("{path}: is a file; choose the folder that it lies in.").format(path=folder)
        if not Path(folder).exists():
            if cls.isPartlyBuilt(folder):
                return _("A build from files into this folder was stopped; of the same files it goes on where it was.")
            return _("Nothing is there yet: build a reference, or choose another folder.")
        try:
            manifest = read_manifest(Path(folder))
        except MemorizationIndexError as error:
            return inPanelWords(str(error))
        text = _("{subjects} subjects, {volumes} volumes, {slices} {plane} slices").format(
            plane=manifest["plane"], **manifest["counts"]
        )
        if manifest["encoder"]["name"] != "spectral":
            text += _("; encoder {name}").format(name=manifest["encoder"]["name"])
        if manifest["counts"]["subjects"] < MINIMUM_SUBJECTS:
            text += _("; too few subjects for p: verdicts rest on verified matches")
        return text

    @classmethod
    def isReference(cls, folder):
        """Whether the chosen folder holds a reference."""
        try:
            return cls.chosen(folder) is not None and bool(read_manifest(Path(folder)))
        except MemorizationIndexError:
            return False

    @staticmethod
    def isPartlyBuilt(referenceFolder):
        """Whether a stopped build from files would go on."""
        folder = _chosen(referenceFolder)
        # What is being typed may be "/", which has no name.
        return folder is not None and bool(folder.name) and _workspace(folder).is_dir()

    # --- The run -----------------------------------------------------------------------------------------------------

    def stop(self):
        """Stop what is running; returns at once, ``onFinished("stopped", "")`` follows."""
        if self._run:
            self._run.stop()

    def wait(self):
        """Return when nothing is running."""
        while self._run:
            self._run.wait()

    def _check(self):
        if self.busy:
            raise MemorizationIndexError(_("A run is going on; wait for it or stop it first."))
        if self.installer.missing():
            raise MemorizationIndexError(self.installer.consentLine())

    def _begin(self, volumes, referenceFolder, subjects, onEvent, onFinished):
        """A run that is not started yet, the writer of its volumes, and the generator that writes them."""
        self._check()
        if not _chosen(referenceFolder):
            raise MemorizationIndexError(_("No reference is chosen; choose the folder of one, or build one."))
        if _areFiles(volumes) and not _chosen(volumes):
            raise MemorizationIndexError(_("No folder or table is chosen; choose the one that has the volumes."))
        onEvent, onFinished = onEvent or _ignore, onFinished or _ignore

        def ending(outcome, message):
            onFinished(outcome, writer.named(message))

        run = self._run = Run(lambda event: self._handle(event, writer, onEvent), self._ending(ending))
        writer = VolumeWriter(run.folder / "volumes")
        writing = iter(()) if _areFiles(volumes) else writer.writing(volumes, subjects)
        for reason in writer.skipped.values():
            onEvent({"event": "skipped", "path": "", "reason": reason})
        return run, writer, writing

    @staticmethod
    def _handle(event, writer, onEvent):
        """Hand an event on, in which volumes are called what they are called in the scene."""
        if event["event"] == "skipped":
            writer.skip(Path(event["path"]), event["reason"])
        onEvent({**event, **{key: writer.named(event[key]) for key in ("message", "reason") if key in event}})

    def _ending(self, onFinished):
        def handle(outcome, message):
            self._run = None
            if onFinished:
                onFinished(outcome, message)

        return handle

    def _forget(self):
        self._run.discard()
        self._run = None

    def _wait(self, start, *arguments, **options):
        outcome = []
        start(*arguments, onFinished=lambda *result: outcome.append(result), **options)
        self.wait()
        [(state, message)] = outcome
        if state != "done":
            raise MemorizationIndexError(message or _("The run was stopped."))


def _ignore(*_event):
    """Nobody wants to know."""


def _thenForgetting(referenceFolder, onFinished):
    """What is called at the end of a build from the scene: the files of one that was stopped are gone with it."""

    def handle(outcome, message):
        if outcome != "done":
            shutil.rmtree(_workspace(Path(referenceFolder)), ignore_errors=True)
        if onFinished:
            onFinished(outcome, message)

    return handle


def _workspace(folder):
    """Where a build keeps what is finished."""
    return folder.with_name(f".{folder.name}.building")


def _chosen(folder):
    """The folder, or None where the user chose none (an empty path, which reads ".")."""
    return None if folder is None or Path(folder) == Path() else Path(folder)


def _areFiles(volumes):
    return isinstance(volumes, (str, Path))


def _count(volumes):
    return 0 if _areFiles(volumes) else len(volumes)


def _source(volumes, writer):
    """What the worker reads: the user's folder or table, or the table of what was written."""
    if _areFiles(volumes):
        return Path(volumes).absolute()
    if not writer.written:
        reasons = " ".join(writer.skipped.values())
        raise MemorizationIndexError(reasons or _("No volume is chosen; choose at least one."))
    return writer.table


def _encoder(weights, device):
    return [*(["--weights", Path(weights).absolute()] if _chosen(weights) else []), "--device", device]


def _thenTraining(writing, training, writer):
    """What is written of the user's volumes, then of training volumes that only the scene has; these do not count."""
    done = 0
    for done in writing:
        yield done
    for _step in training.recognizing():
        yield done
    only = training.withoutFiles()
    for _more in writer.writingNamed(only) if writer is not None and only else ():
        yield done


def _present(nodes):
    """Those that a selector of volumes offers, and that are still in the scene."""
    there = [node for node in nodes if slicer.mrmlScene.IsNodePresent(node)]
    return [node for node in there if node.GetClassName() == "vtkMRMLScalarVolumeNode"]
