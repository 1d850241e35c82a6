"""The section where a reference is chosen or built."""

from slicer.i18n import tr as _

from .CheckedVolumes import CheckedVolumes
from .ChoiceBox import ChoiceBox

# So many subjects and reasons are named.
_NAMED = 5


class ReferencePanel:
    """The reference folder with what it holds, and the building of one, with a preview."""

    def __init__(self, ui, logic, run):
        self.ui, self.logic, self.run, self.parameter = ui, logic, run, None
        self._training = CheckedVolumes(ui.trainingSelector, self._onChecked)
        texts = {"scene": _("Volumes of the scene"), "files": _("A folder or table on disk")}
        self._source = ChoiceBox(ui.trainingSourceSelector, texts, self._onSource)
        self._skipped, self._previewOf = [], None
        ui.previewButton.connect("clicked()", self.onPreview)
        ui.buildButton.connect("clicked()", self.onBuild)

    def update(self):
        """Show the parameters and the state of the run."""
        ui, parameter = self.ui, self.parameter
        self._source.choose(parameter.trainingSource)
        self._training.check(parameter.trainingVolumes)
        fromScene = parameter.trainingSource == "scene"
        ui.trainingSelector.visible, ui.trainingFilesPath.visible = fromScene, not fromScene
        replaces = self.logic.isReference(parameter.referenceFolder) and self._chosen()
        about = self.logic.describeReference(parameter.referenceFolder)
        ui.referenceInfoLabel.text = about + (_(". Build would replace it.") if replaces else "")
        if self._previewOf is not None and self._previewOf != self._key():
            self._say("")
        lacking = self._lacking()
        building = self.run.kind == "build"
        goesOn = not fromScene and self.logic.isPartlyBuilt(parameter.referenceFolder)
        ui.buildButton.text = _("Stop") if building else _("Resume") if goesOn else _("Build")
        ui.buildButton.enabled, ui.previewButton.enabled = building or not lacking, not lacking
        ui.buildButton.toolTip = lacking or _(
            "Fit a reference on the training volumes and write it into the reference folder."
        )

    def onPreview(self):
        """Say what would be read."""
        chosen = self._chosen()
        if isinstance(chosen, list):
            preview = self.logic.previewOf(chosen, self.parameter.plane)
            self._show(preview.volumes, preview.subjects, list(preview.skipped.values()), preview.plane)
        else:
            self._skipped, plane = [], self.parameter.plane
            self.run.start("preview", self.logic.startPreview, chosen, plane, onEvent=self._onPreviewEvent)

    def onBuild(self):
        """Build a reference from what is chosen, or stop building it."""
        if self.run.kind == "build":
            self.run.stop()
            return
        parameter = self.parameter
        self.run.start(
            "build",
            self.logic.startBuilding,
            self._chosen(),
            parameter.referenceFolder,
            None,
            parameter.plane,
            parameter.encoder,
            parameter.weights,
            parameter.device,
        )

    def _chosen(self):
        """The chosen volume nodes, or the path of files; empty or None where nothing is chosen."""
        if self.parameter.trainingSource == "scene":
            return self._training.nodes()
        return self.logic.chosen(self.parameter.trainingFiles)

    def _lacking(self):
        """Why nothing can be built now, in a sentence; empty if it can."""
        if self.logic.busy:
            return _("A run is going on; wait for it or stop it first.")
        return self.logic.installer.consentLine() or ("" if self._chosen() else _("Choose training volumes first."))

    def _key(self):
        chosen = self._chosen()
        return [node.GetID() for node in chosen] if isinstance(chosen, list) else chosen, self.parameter.plane

    def _onChecked(self):
        if self.parameter is not None:
            self.parameter.trainingVolumes = self._training.nodes()

    def _onSource(self, value):
        if self.parameter is not None:
            self.parameter.trainingSource = value

    def _onPreviewEvent(self, event):
        if event["event"] == "skipped":
            self._skipped.append(event["reason"])
        elif event["event"] == "done":
            self._show(event["counts"]["volumes"], event["subjects"], self._skipped, event["plane"])
            self.run.say("")

    def _show(self, volumes, subjects, skipped, plane):
        named = ", ".join(list(subjects)[:_NAMED]) + (", …" if len(subjects) > _NAMED else "")
        whose = _("1 subject") if len(subjects) == 1 else _("{count} subjects").format(count=len(subjects))
        what = _("1 volume") if volumes == 1 else _("{count} volumes").format(count=volumes)
        text = _("{volumes} of {subjects} ({named}), cut into {plane} slices.").format(
            volumes=what, subjects=whose, named=named, plane=plane
        )
        if skipped:
            more = " …" if len(skipped) > _NAMED else ""
            reasons = " ".join(skipped[:_NAMED])
            text += "\n" + _("{count} would be skipped: {reasons}").format(count=len(skipped), reasons=reasons + more)
        self._say(text)
        self._previewOf = self._key()

    def _say(self, text):
        self.ui.previewLabel.text = text
        self.ui.previewLabel.visible = bool(text)
        self._previewOf = None
