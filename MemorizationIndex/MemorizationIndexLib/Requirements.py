"""Which Python packages are needed for what, how large they are, and which of them are missing."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """A package: ``line`` as pip takes it, its download ``size`` in words, ``features`` that need it (none: all)."""

    line: str
    size: str
    features: tuple

    @property
    def name(self):
        """The package's name."""
        return self.line.partition(">=")[0]

    def isMissing(self):
        """Whether the package cannot be imported, or is older than required."""
        if importlib.util.find_spec(self.name.replace("-", "_")) is None:
            return True
        try:
            installed = importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return False  # importable without metadata: a build of Slicer's own
        return _numbers(installed) < _numbers(self.line.partition(">=")[2])


def readRequirements(path):
    """The requirements of a file: ``package # size # feature, feature`` a line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            package, size, features = (*(part.strip() for part in line.split("#")), "", "")[:3]
            found.append(Requirement(package, size, tuple(f.strip() for f in features.split(",") if f.strip())))
    return found


def _numbers(version):
    """The leading numbers of a version: "2.13.0+cpu" is (2, 13, 0)."""
    numbers = []
    for part in version.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
