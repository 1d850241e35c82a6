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
        ui.examineLabel.text = _chosenText(len(chosen)) if isinstance(chosen, list) else ""
        lacking = self._lacking(chosen)
        ui.applyButton.text = _("Stop") if self._stops else _("Apply")
        ui.applyButton.enabled = not lacking
        ui.applyButton.toolTip = lacking or _("Compare the chosen volumes with the reference.")

    @property
    def _stops(self):
        """Whether the button stops what is going on; a build is stopped by its own."""
        return self.logic.busy and self.run.kind != "build"

    def _lacking(self, chosen):
        """Why the button cannot be pressed, in a sentence; empty if it can."""
        if self._stops:
            return ""
        if self.logic.busy:
            return _("A reference is being built; wait for it or stop it first.")
        return self.logic.installer.consentLine() or ("" if chosen else _("Choose volumes first."))

    def onApply(self):
        """Start to score, or stop what is going on."""
        if self._stops:
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
        aside = self.logic.review.putAside()
        if aside:
            text = _("Done. Decisions on {count} other volumes are put aside until these are examined again.")
            self.run.say(text.format(count=aside))
            self.run.log(text.format(count=aside))
        missing = self.logic.results.run.get("counts", {}).get("training_volumes_missing")
        if missing:
            count = _("1 training volume was") if missing == 1 else _("{count} training volumes were")
            remedy = _("load them, or name the folder under Advanced › Training files.")
            if self.logic.chosen(self.parameter.trainingFolder):  # then they are looked for there alone
                remedy = _("name another folder under Advanced › Training files, or empty that and load them.")
            text = _("Done, but {volumes} not found, so matches were not verified: {remedy}").format(
                volumes=count.format(count=missing), remedy=remedy
            )
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


def _chosenText(count):
    return _("1 volume is chosen.") if count == 1 else _("{count} volumes are chosen.").format(count=count)
