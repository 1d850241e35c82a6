"""The user's own folder of things that can be made again: features of deep encoders, and where their weights lie.

Nothing of it goes into references or results. Features can be matched to the pictures that they come from, and paths
name people, so nobody else on the machine may read the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Names another folder than the system's usual one.
VARIABLE = "MEMORIZATION_INDEX_CACHE"
#: In place of a folder: keep features only as long as the program runs.
OFF = "off"


def user_cache() -> Path:
    """The folder for this program in what the system has for caches of this user (it may not exist yet)."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "memorization-index"


class FeatureCache:
    """Features ``{channel: (D,) float16}`` of single pictures, by a key that names picture and encoder.

    ``folder`` None: in the user's cache; ``off``: in a temporary folder that goes with this object.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._temporary = None
        if folder is None:
            self._folder = user_cache() / "features"
        elif str(folder) == OFF:
            self._temporary = tempfile.TemporaryDirectory(prefix="memorization-index-features-")
            self._folder = Path(self._temporary.name)
        else:
            self._folder = Path(folder)

    def load(self, key: str) -> dict[str, NDArray[np.float16]] | None:
        """Features that are there; None where they are not, or cannot be read."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(self._path(key))
        except (OSError, SafetensorError):
            return None

    def store(self, key: str, features: Mapping[str, NDArray[np.float16]]) -> None:
        """Keep features. What cannot be written (a full disk) is computed again another time."""
        from safetensors.numpy import save

        _write(self._path(key), save(dict(features)))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def remember_weights(fingerprint: str, path: str | Path) -> None:
    """Keep where the weights of an encoder lie on this machine."""
    _write(_place(fingerprint), json.dumps({"path": str(Path(path).absolute())}).encode())


def recall_weights(fingerprint: str) -> Path | None:
    """Where the weights of an encoder were when they were last used here, if they are still there."""
    try:
        path = Path(json.loads(_place(fingerprint).read_text(encoding="utf-8"))["path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if path.exists() else None


def _place(fingerprint: str) -> Path:
    return user_cache() / "weights" / f"{hashlib.sha256(fingerprint.encode()).hexdigest()}.json"


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
