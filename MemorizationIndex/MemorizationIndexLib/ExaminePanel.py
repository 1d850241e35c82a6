"""The section where it is chosen what to examine, and Apply."""

from slicer.i18n import tr as _

from .CheckedVolumes import CheckedVolumes
from .ChoiceBox import ChoiceBox
from .HierarchyFolder import HierarchyFolder


class ExaminePanel:
    """Volumes of the scene, below a folder of the subject hierarchy, or on disk. ``onDone()`` at results."""

    def __init__(self, ui, logic, run, onDone):
        self.ui, self.logic, self.run, self.parameter, self._onDone = ui, logic, run, None, onDone
        texts = {
            "scene": _("Volumes of the scene"),
            "hierarchy": _("A folder of the subject hierarchy"),
            "files": _("A folder or table on disk"),
        }
        self._source = ChoiceBox(ui.sourceSelector, texts, self._onSource)
        self._volumes = CheckedVolumes(ui.volumeSelector, self._onChecked)
        self._folder = HierarchyFolder(ui.folderSelector, self._onFolder)
        ui.applyButton.connect("clicked()", self.onApply)

    def update(self):
        """Show the parameters and the state of the run."""
        ui, source = self.ui, self.parameter.source
        self._source.choose(source)
        self._volumes.check(self.parameter.volumes)
        self._folder.update()
        ui.volumeSelector.visible = source == "scene"
        ui.folderSelector.visible = source == "hierarchy"
        ui.filesPath.visible = source == "files"
        chosen = self._chosen()
        ui.examineLabel.text = (
            _("{count} volumes are chosen.").format(count=len(chosen)) if isinstance(chosen, list) else ""
        )
        busy = self.logic.busy
        ui.applyButton.text = _("Stop") if busy else _("Apply")
        lacking = "" if busy else self.logic.installer.consentLine() or ("" if chosen else _("Choose volumes first."))
        ui.applyButton.enabled = not lacking
        ui.applyButton.toolTip = lacking or _("Compare the chosen volumes with the reference.")

    def onApply(self):
        """Start to score, or stop what is going on."""
        if self.logic.busy:
            self.run.stop()
            return
        parameter = self.parameter
        if self.logic.chosen(parameter.referenceFolder) and not self.logic.isReference(parameter.referenceFolder):
            self.run.say(_("Nothing was started: the reference above cannot be used."))  # the line there says why
            return
        self.run.start(
            "score",
            self.logic.startScoring,
            self._chosen(),
            parameter.referenceFolder,
            parameter.trainingFolder,
            parameter.weights,
            parameter.device,
            keyFile=parameter.keyFile,
            onDone=self._onScored,
        )

    def _onScored(self):
        """Show the result, and say what it lacks."""
        self._onDone()
        missing = self.logic.results.run.get("counts", {}).get("training_volumes_missing")
        if missing:
            text = _(
                "Done, but {count} training volumes were not found, so matches were not verified: "
                "name their folder under Advanced."
            ).format(count=missing)
            self.run.say(text)
            self.run.log(text)

    def _chosen(self):
        """The chosen volume nodes, or the path of files; empty or None where nothing is chosen."""
        source = self.parameter.source
        if source == "files":
            return self.logic.chosen(self.parameter.files)
        return self._volumes.nodes() if source == "scene" else self._folder.nodes()

    def _onSource(self, value):
        if self.parameter is not None:
            self.parameter.source = value

    def _onChecked(self):
        if self.parameter is not None:
            self.parameter.volumes = self._volumes.nodes()

    def _onFolder(self):
        if self.parameter is not None:
            self.update()
