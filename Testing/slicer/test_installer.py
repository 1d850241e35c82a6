"""Installing what is missing: real pip, a local folder of wheels, no network."""

import base64
import hashlib
import importlib.util
import os
import socket
import sys
import threading
import types
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import qt
from memorization_index.encoders.checkpoints import Shape, expected_shapes
from memorization_index.errors import MemorizationIndexError
from MemorizationIndexLib import Installer, Weights
from MemorizationIndexLib.Requirements import readRequirements
from safetensors.numpy import save_file
from testsupport import SceneTestCase, isAlive, waitUntil


def writeWheel(folder, name, version, source, requires=()):
    """A wheel with one module ``name``."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class InstallerTestCase(SceneTestCase):
    """pip installs into a folder that only this test looks into."""

    def setUp(self):
        super().setUp()
        self.site, self.wheels, self.asked = self.folder / "site", self.folder / "wheels", []
        self.site.mkdir()
        self.wheels.mkdir()
        unreachable = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
        environment = {"PIP_TARGET": str(self.site), "PIP_CONFIG_FILE": os.devnull, **unreachable}
        self.enterContext(mock.patch.dict(os.environ, environment))
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
            os.environ.pop(name, None)
        self.enterContext(mock.patch.object(sys, "path", [str(self.site), *sys.path]))
        self.enterContext(mock.patch.dict(sys.modules))
        self.settings = qt.QSettings(str(self.folder / "settings.ini"), qt.QSettings.IniFormat)

    def installer(self, lines, optional=(), answer=True):
        """An installer of the requirements in ``lines``, whose question is answered with ``answer``."""
        (self.folder / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
        (self.folder / "requirements-optional.txt").write_text("\n".join(optional), encoding="utf-8")
        return Installer(
            self.folder / "requirements.txt", lambda text: self.asked.append(text) or answer, self.settings
        )


class InstallTest(InstallerTestCase):
    def test_from_a_folder_of_wheels_with_what_they_need(self):
        writeWheel(self.wheels, "miprobe", "1.2", "import mihelper\nvalue = mihelper.value", ["mihelper"])
        writeWheel(self.wheels, "mihelper", "0.1", "value = 42")
        installer = self.installer(["miprobe>=1.0  # 0.3 MB"])
        self.assertEqual(installer.missing(), ["miprobe>=1.0"])
        self.assertIn("PyPI", installer.consentLine())
        installer.wheelFolder = self.wheels
        line = f"Python packages to be installed from {self.wheels} first, without network: miprobe (0.3 MB)."
        self.assertEqual(installer.consentLine(), line)
        progress = []
        self.assertTrue(installer.install(progress.append))
        self.assertEqual(self.asked, [f"{line}\n\nInstall now?"])
        self.assertEqual((installer.missing(), installer.consentLine(), installer.state), ([], "", "ready"))
        self.assertEqual(__import__("miprobe").value, 42)
        self.assertIn("Successfully installed mihelper-0.1 miprobe-1.2", installer.log)
        self.assertEqual("\n".join(progress), installer.log)
        self.assertTrue(installer.install(), "nothing is missing: nothing is asked")
        self.assertEqual(len(self.asked), 1)

    def test_an_older_version_is_replaced(self):
        writeWheel(self.wheels, "miprobe", "0.9", "value = 1")
        installer = self.installer(["miprobe>=0.1  # 1 MB"])
        installer.wheelFolder = self.wheels
        self.assertTrue(installer.install())
        writeWheel(self.wheels, "miprobe", "0.10.1", "value = 2")
        newer = self.installer(["miprobe>=0.10  # 1 MB"])
        self.assertEqual(newer.missing(), ["miprobe>=0.10"])

    def test_without_a_yes_nothing_is_installed(self):
        writeWheel(self.wheels, "miprobe", "1.2", "")
        installer = self.installer(["miprobe>=1.0  # 1 MB"], answer=False)
        installer.wheelFolder = self.wheels
        self.assertFalse(installer.install())
        self.assertEqual((list(self.site.iterdir()), installer.log, installer.state), ([], "", "ready"))

    def test_a_failed_installation_leaves_a_clear_state_and_a_log(self):
        writeWheel(self.wheels, "miprobe", "1.2", "", ["mihelper>=3"])
        installer = self.installer(["miprobe>=1.0  # 1 MB"])
        installer.wheelFolder = self.wheels
        self.assertFalse(installer.install())
        self.assertEqual(installer.state, "failed")
        self.assertIn("No matching distribution found for mihelper>=3", installer.message)
        self.assertIn("--find-links", installer.log)
        self.assertEqual((installer.missing(), list(self.site.iterdir())), (["miprobe>=1.0"], []))
        writeWheel(self.wheels, "mihelper", "3.1", "")
        self.assertTrue(installer.install(), "once the folder is complete, it works")
        self.assertEqual((installer.state, installer.message), ("ready", ""))

    def test_the_proxy_of_the_environment_is_used(self):
        proxy = Silent(holds=False)
        self.addCleanup(proxy.close)
        index = {
            "PIP_INDEX_URL": "http://index.invalid/simple",
            "PIP_TRUSTED_HOST": "index.invalid",
            "PIP_RETRIES": "0",
        }
        with mock.patch.dict(
            os.environ, {**index, "HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "NO_PROXY": "", "no_proxy": ""}
        ):
            installer = self.installer(["miprobe>=1.0  # 1 MB"])
            self.assertFalse(installer.install())
        self.assertEqual(installer.state, "failed")
        self.assertEqual(proxy.request, b"GET http://index.invalid/simple/miprobe/ HTTP/1.1")

    def test_cancel_ends_pip_itself(self):
        server = Silent()
        self.addCleanup(server.close)
        with mock.patch.dict(os.environ, {"PIP_INDEX_URL": server.url, "PIP_RETRIES": "0", "NO_PROXY": "127.0.0.1"}):
            installer = self.installer(["miprobe>=1.0  # 1 MB"])
            qt.QTimer.singleShot(10, lambda: self.cancelWhen(server, installer))
            self.assertFalse(installer.install())
        self.assertEqual(installer.state, "cancelled")
        self.assertIn("pip install", installer.log)
        pid = self.pid
        waitUntil(lambda: not isAlive(pid), seconds=5)
        self.assertEqual(list(self.site.iterdir()), [])

    def cancelWhen(self, server, installer):
        if not server.asked.is_set():
            qt.QTimer.singleShot(10, lambda: self.cancelWhen(server, installer))
            return
        self.pid = installer._process._pid
        self.assertTrue(isAlive(self.pid))
        installer.cancel()


class Silent:
    """A server that notes what it is asked and never answers: it holds the connection, or closes it."""

    def __init__(self, holds=True):
        self._socket, self.asked, self.request, self._connection = None, threading.Event(), b"", None
        self._socket, self._holds = socket.create_server(("127.0.0.1", 0)), holds
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            self._connection, _address = self._socket.accept()
            self.request = self._connection.recv(4096).partition(b"\r\n")[0]
        except OSError:
            return
        self.asked.set()
        if not self._holds:
            self._connection.close()

    def close(self):
        if self._connection is not None:
            self._connection.close()
        self._socket.close()


class FeatureTest(InstallerTestCase):
    OPTIONAL = (
        "torch>=999  # 200 MB # mri-core, hf",
        "mitransformers>=1  # 9 MB # hf",
    )

    def test_each_feature_has_its_own_line(self):
        installer = self.installer([], self.OPTIONAL)
        self.assertEqual((installer.missing(), installer.consentLine()), ([], ""))
        self.assertEqual(installer.missing("mri-core"), ["torch>=999"])
        self.assertIn("torch (200 MB), mitransformers (9 MB)", installer.consentLine("hf"))

    def test_torch_needs_the_pytorch_extension(self):
        installer = self.installer([], self.OPTIONAL)
        self.assertFalse(installer.install(feature="mri-core"))
        self.assertEqual(installer.state, "failed")
        self.assertIn("Extensions Manager", installer.message)

    def test_torch_is_installed_by_the_pytorch_extension(self):
        class PyTorchUtilsLogic:
            """The extension's own signature."""

            def installTorch(logic, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
                self.given = (askConfirmation, forceComputationBackend, torchVersionRequirement)
                print("Collecting torch\nSuccessfully installed torch-999.1")
                info = self.site / "torch-999.1.dist-info"
                info.mkdir()
                (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 999.1\n")
                (self.site / "torch.py").write_text("")

        module = types.ModuleType("PyTorchUtils")
        module.PyTorchUtilsLogic = PyTorchUtilsLogic
        sys.modules["PyTorchUtils"] = module
        sys.modules.pop("torch", None)
        installer = self.installer([], self.OPTIONAL)
        self.assertTrue(installer.install(feature="mri-core"))
        self.assertEqual(self.given, (False, None, ">=999"))
        self.assertIn("Successfully installed torch-999.1", installer.log)

    def test_the_modules_own_lists(self):
        folder = Path(sys.modules["MemorizationIndexLib"].__file__).parent.parent / "Resources"
        needed = readRequirements(folder / "requirements.txt")
        optional = readRequirements(folder / "requirements-optional.txt")
        self.assertEqual([r.name for r in needed], ["safetensors"])
        self.assertEqual({r.name for r in optional}, {"torch", "transformers"})
        self.assertTrue(all(r.size for r in (*needed, *optional)))
        self.assertTrue(all(r.features for r in optional))


class WeightsTest(SceneTestCase):
    def setUp(self):
        super().setUp()
        self.settings = qt.QSettings(str(self.folder / "settings.ini"), qt.QSettings.IniFormat)
        self.weights = Weights(settings=self.settings)

    def checkpoint(self):
        """A tiny checkpoint of MRI-CORE's shape, random."""
        shapes = {**expected_shapes(Shape(32, 4, 64, 16), False), "pos_embed": (1, 15, 15, 32)}
        random = np.random.default_rng(0)
        tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
        path = self.folder / "weights.safetensors"
        save_file(tensors, path)
        return path

    def test_a_checked_file_is_remembered_and_not_asked_for_again(self):
        if importlib.util.find_spec("torch") is None:
            self.skipTest("torch is not installed; it reads the weights")
        path = self.checkpoint()
        self.assertIsNone(self.weights.path)
        self.weights.choose(path)
        again = Weights(settings=qt.QSettings(str(self.folder / "settings.ini"), qt.QSettings.IniFormat))
        self.assertEqual(again.path, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        for part in (sha256, "fingerprint", f"{path.stat().st_size} bytes", "4 blocks"):
            self.assertIn(part, again.description)
        with path.open("ab") as file:
            file.write(b"x")
        self.assertIsNone(again.path, "a changed file is not the one that was checked")
        self.assertEqual(again.description, "")
        again.choose(self.checkpoint())
        again.forget()
        self.assertIsNone(again.path)

    def test_without_torch_it_says_so(self):
        if importlib.util.find_spec("torch") is not None:
            self.skipTest("torch is installed")
        with self.assertRaisesRegex(MemorizationIndexError, "needs torch"):
            self.weights.choose(self.checkpoint())
        self.assertIsNone(self.weights.path)

    def test_a_wrong_file_is_refused_in_a_sentence(self):
        page = self.folder / "page.pth"
        page.write_text("<!DOCTYPE html><html>Google Drive - Virus scan warning</html>", encoding="utf-8")
        with self.assertRaisesRegex(MemorizationIndexError, r"page\.pth"):
            self.weights.choose(page)
        with self.assertRaisesRegex(MemorizationIndexError, "absent"):
            self.weights.choose(self.folder / "absent.pth")
        self.assertIsNone(self.weights.path)


if __name__ == "__main__":
    unittest.main()
