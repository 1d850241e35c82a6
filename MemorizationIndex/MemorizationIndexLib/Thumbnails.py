"""Small pictures of training slices, for when the training volumes are not at hand."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import scipy.ndimage
import slicer
from memorization_index.pictures import Pictures

_REFERENCE_PICTURES = "thumbnails.npy"


class Thumbnails:
    """Pictures that the result kept for its report and, for slices without one, those of the reference."""

    def __init__(self, results):
        self._results, self._folder = results, results.reference

    def of(self, link):
        """``{slice number: uint8 picture (size, size)}`` of the matches in a :class:`Link`, laid on its slices.

        Rows and columns are those of the slice's square image.
        """
        return self._ofReference(link) | self._ofResult(link)

    def _ofResult(self, link):
        table = self._results.parameter.sliceTable.GetTable()
        volumes, numbers, matches = (table.GetColumnByName(name) for name in ("volume", "slice", "match_volume"))
        pictures, name = self._pictures(), self._results.nameOf(link.scored.node)
        if "training" not in pictures.images:
            return {}
        return {
            int(numbers.GetValue(row)): image
            for row, image in zip(pictures.rows, pictures.images["training"], strict=True)
            if (volumes.GetValue(row), matches.GetValue(row)) == (name, link.matchName)
        }

    def _pictures(self):
        content = self._results.files.read("pictures.safetensors")
        if content is None:
            return Pictures()
        with tempfile.TemporaryDirectory(prefix="MemorizationIndex-", dir=slicer.app.temporaryPath) as folder:
            path = Path(folder) / "pictures.safetensors"
            path.write_bytes(content)
            return Pictures.load(path)

    def _ofReference(self, link):
        path = self._folder / _REFERENCE_PICTURES
        if not path.is_file():
            return {}
        pictures = np.load(path, mmap_mode="r", allow_pickle=False)
        volume = [row["volume"] for row in _rows(self._folder / "volumes.csv")].index(link.matchName)
        rows = [(int(row["volume_row"]), int(row["slice"])) for row in _rows(self._folder / "slices.csv")]
        found = {}
        for number in link.scored.rows:
            place = (volume, link.matchedSlice(number))
            if place in rows:
                found[number] = _aligned(np.asarray(pictures[rows.index(place)]), link.squareToTraining(number))
        return found


def _aligned(picture, toTraining):
    """A training picture on the query's square, by the matrix between their square coordinates (row, column, slice)."""
    size = len(picture)
    matrix = toTraining[:2, :2]
    center = np.full(2, (size - 1) / 2)
    offset = center + toTraining[:2, 3] * size - matrix @ center
    return scipy.ndimage.affine_transform(picture, matrix, offset, order=1)


def _rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
