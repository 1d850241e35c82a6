"""Python packages that the module needs and Slicer does not have: what is missing, consent, installation, log."""

import contextlib
import importlib
import io
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from .PythonProcess import PythonProcess
from .Requirements import readRequirements

#: Application setting: the folder of wheels that packages are installed from instead of the network.
_WHEELS = "MemorizationIndex/WheelFolder"
_OPTIONAL_FILE = "requirements-optional.txt"


class Installer:
    """Says what is missing and installs it, after asking.

    ``feature`` is what the packages are for: ``""`` for the module itself, ``"mri-core"`` or ``"hf"``. ``state`` is
    ``ready``, ``installing``, ``failed`` or ``cancelled``, ``message`` one sentence about it, ``log`` all that pip said
    in the last installation, to be copied.

    pip runs as ``slicer.packaging`` runs it (``PythonSlicer -m pip install``, in the environment and with the proxies
    of the application), but in a process of our own: the functions of Slicer 5.10 can neither be followed nor
    cancelled, and the later ``pip_ensure`` shows no size and takes no folder of wheels.

    ``confirm(text)`` asks the user; ``settings`` keeps what is remembered. Both have defaults.
    """

    def __init__(self, requirementsFile, confirm=None, settings=None):
        self._requirements = readRequirements(requirementsFile)
        optional = requirementsFile.with_name(_OPTIONAL_FILE)
        self._requirements += readRequirements(optional) if optional.is_file() else []
        self._confirm = confirm or _confirm
        self._settings = settings if settings is not None else qt.QSettings()
        self._process, self._lines, self._cancelled = None, [], False
        self.state, self.message = "ready", ""

    # --- What is missing ---------------------------------------------------------------------------------------------

    def missing(self, feature=""):
        """The requirements of the module and of ``feature`` that cannot be imported, as pip takes them."""
        return [requirement.line for requirement in self._missing(feature)]

    def consentLine(self, feature=""):
        """One sentence: what is missing, how large it is, where it comes from; empty when nothing is."""
        missing = [f"{requirement.name} ({requirement.size})" for requirement in self._missing(feature)]
        if not missing:
            return ""
        packages, folder = ", ".join(missing), self.wheelFolder
        if folder:
            return _("Python packages to be installed from {folder} first, without network: {packages}.").format(
                packages=packages, folder=folder
            )
        return _("Python packages to be installed from PyPI first: {packages}.").format(packages=packages)

    @property
    def wheelFolder(self):
        """The folder of wheels to install from, remembered by the application; None: PyPI."""
        folder = self._settings.value(_WHEELS)
        return Path(folder) if folder else None

    @wheelFolder.setter
    def wheelFolder(self, folder):
        if folder:
            self._settings.setValue(_WHEELS, str(folder))
        else:
            self._settings.remove(_WHEELS)

    # --- Installing --------------------------------------------------------------------------------------------------

    @property
    def log(self):
        """What pip said in the last installation."""
        return "\n".join(self._lines)

    def install(self, onProgress=None, feature=""):
        """Ask, then install; True when nothing is missing any more. In testing mode nothing is installed.

        Returns when it is done; the application stays alive meanwhile. ``onProgress(line)`` is called with every line
        that pip prints.
        """
        missing = self._missing(feature)
        if not missing:
            return True
        if self.state == "installing" or not self._confirm(self._question(feature)):
            return False
        self.state, self.message, self._lines, self._cancelled = "installing", _("Installing…"), [], False
        try:
            problem = self._installAll(missing, onProgress or (lambda line: None))
        finally:
            self._process = None
        importlib.invalidate_caches()
        left = self._missing(feature)
        if self._cancelled:
            self.state, self.message = "cancelled", _("The installation was cancelled.")
        elif problem or left:
            self.state = "failed"
            self.message = problem or _("{names}: installed, but cannot be imported; restart the application.").format(
                names=", ".join(requirement.name for requirement in left)
            )
        else:
            self.state, self.message = "ready", ""
        return not left

    def cancel(self):
        """Stop installing; returns at once, ``install`` returns soon. (torch's own installer cannot be stopped.)"""
        self._cancelled = True
        if self._process is not None:
            self._process.stop()

    def _question(self, feature):
        return _("{what}\n\nInstall now?").format(what=self.consentLine(feature))

    def _missing(self, feature):
        needed = [r for r in self._requirements if not r.features or feature in r.features]
        return [requirement for requirement in needed if requirement.isMissing()]

    def _installAll(self, missing, onProgress):
        """Install; returns one sentence that says what went wrong, or an empty text."""

        def onLine(line):
            self._lines.append(line)
            onProgress(line)

        # From a folder all goes through pip; from the network torch's own extension knows which build fits.
        torch = [] if self.wheelFolder else [r for r in missing if r.name == "torch"]
        others = [requirement for requirement in missing if requirement not in torch]
        problem = self._installTorch(torch[0], onLine) if torch else ""
        if others and not problem and not self._cancelled:
            problem = self._runPip(others, onLine)
        return problem

    def _runPip(self, requirements, onLine):
        arguments = ["install", "--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
        if self.wheelFolder:
            arguments += ["--no-index", "--find-links", self.wheelFolder]
        arguments += [requirement.line for requirement in requirements]
        onLine("pip " + " ".join(map(str, arguments)))
        self._process = PythonProcess("pip", arguments, onLine)
        code = self._process.run()
        if not code:
            return ""
        errors = [line for line in self._lines if line.startswith("ERROR:")] or self._lines[-1:]
        return _("The installation failed: {reason} Nothing was installed; the log says more.").format(
            reason=errors[-1].removeprefix("ERROR:").strip()
        )

    def _installTorch(self, requirement, onLine):
        try:
            logic = importlib.import_module("PyTorchUtils").PyTorchUtilsLogic()
        except ImportError:
            return _(
                "torch: is installed by the extension PyTorch, which is missing; install it in the Extensions Manager, "
                "or name a folder that holds torch's wheel."
            )
        version = requirement.line.removeprefix(requirement.name)
        output = _Lines(onLine)
        try:
            with contextlib.redirect_stdout(output):  # it prints what its own pip says
                logic.installTorch(askConfirmation=False, torchVersionRequirement=version)
        except Exception as error:  # whatever it raises, the panel needs one sentence
            onLine(str(error))
            return _("torch: the extension PyTorch could not install it ({reason}); the log says more.").format(
                reason=error
            )
        return ""


class _Lines(io.TextIOBase):
    """A text stream that hands on whole lines."""

    def __init__(self, onLine):
        super().__init__()
        self._onLine, self._rest = onLine, ""

    def write(self, text):
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._onLine(line)
        return len(text)


def _confirm(text):
    """Ask the user; never in testing mode, where nothing may be installed."""
    return not slicer.app.testingEnabled() and slicer.util.confirmOkCancelDisplay(text)
