"""Python packages that the module needs and Slicer does not have."""

import importlib.util

import slicer
from slicer.i18n import tr as _


class Installer:
    """Says what is missing and installs it, after asking. ``requirementsFile``: one package a line, its size behind."""

    def __init__(self, requirementsFile):
        lines = requirementsFile.read_text(encoding="utf-8").splitlines()
        pairs = [line.partition("#")[::2] for line in lines if line.strip() and not line.startswith("#")]
        self._sizes = {requirement.strip(): size.strip() for requirement, size in pairs}

    def missing(self):
        """The requirements whose package cannot be imported."""
        return [requirement for requirement in self._sizes if importlib.util.find_spec(_package(requirement)) is None]

    def consentLine(self):
        """One sentence: what is missing, how large it is, where it comes from; empty when nothing is."""
        missing = [f"{_package(requirement)} ({self._sizes[requirement]})" for requirement in self.missing()]
        if not missing:
            return ""
        return _("Python packages to be installed from PyPI first: {packages}.").format(packages=", ".join(missing))

    def install(self):
        """Ask, then install; True when nothing is missing any more. In testing mode nothing is installed."""
        if not self.missing():
            return True
        if slicer.app.testingEnabled() or not slicer.util.confirmOkCancelDisplay(self.consentLine()):
            return False
        slicer.util.pip_install(self.missing())
        return not self.missing()


def _package(requirement):
    return requirement.partition(">=")[0]
