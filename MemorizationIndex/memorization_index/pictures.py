"""The pictures of a report: strongest matches side by side, drawn while query and training images are at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memorization_index.bundle import write_tensors
from memorization_index.matching import agreement_map, aligned_image
from memorization_index.verdicts import COPIED

if TYPE_CHECKING:
    from memorization_index.reference import Reference
    from memorization_index.verification import Pair, TrainingImages

#: Volumes that get a picture, at most: those judged worst.
SHOWN = 200
#: Volumes that get a picture where fewer are flagged, so that a reader sees what the nearest ones look like.
_SHOWN_UNFLAGGED = 3
_VERDICT_ORDER = ("copy", "suspicious", "uncalibrated", "no evidence")


class Images(Protocol):
    """Images ``(128, 128)`` of slices, by row of the slice table."""

    def __getitem__(self, row: int, /) -> Any:
        """The image of one slice."""
        ...


@dataclass
class Pictures:
    """For each shown slice (``row`` of the slice table): query, aligned training slice and agreement, uint8 images.

    ``images[key]`` is ``(k, 128, 128)`` for ``query`` and ``training`` and ``(k, 64, 64)`` for ``agreement``.
    """

    rows: list[int] = field(default_factory=list)
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as safetensors."""
        tensors: dict[str, NDArray[Any]] = dict(self.images) or {"none": np.zeros(1, np.uint8)}
        write_tensors(path, tensors, {"rows": json.dumps(self.rows)})

    @classmethod
    def load(cls, path: Path) -> Pictures:
        """Read what :meth:`save` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as stored:
                rows = json.loads((stored.metadata() or {})["rows"])
                return cls(rows, {key: stored.get_tensor(key) for key in stored.keys() if key != "none"})  # noqa: SIM118
        except FileNotFoundError as error:  # the library tells the system's words and the path as one text
            raise ValueError(f"{path.name}: No such file or directory") from error
        except (SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f"{path.name} does not hold the pictures that score wrote") from error


def worst_first(volumes: dict[str, NDArray[Any]]) -> list[int]:
    """Row numbers of the volume table by verdict, then the share of copied slices, then p, then MI."""
    p = np.nan_to_num(volumes["p_value"].astype(float), nan=1.0)
    mi = np.nan_to_num(volumes["mi"].astype(float), nan=0.0)
    ranks = [_VERDICT_ORDER.index(v) for v in volumes["verdict"]]
    copied = volumes["fraction_copied"].astype(float)
    return sorted(range(len(ranks)), key=lambda i: (ranks[i], -copied[i], p[i], -mi[i], i))


def shown_volumes(volumes: dict[str, NDArray[Any]]) -> list[int]:
    """Row numbers of the volumes that the report shows: the flagged ones, worst first, or the first few of all."""
    order = worst_first(volumes)
    flagged = [i for i in order if volumes["n_flagged"][i] > 0]
    return flagged[:SHOWN] or order[:_SHOWN_UNFLAGGED]


def strongest_slice(slices: dict[str, NDArray[Any]], rows: NDArray[np.int64]) -> int:
    """Of these rows of the slice table, the one that is the strongest evidence.

    Where a slice was copied (or nothing is flagged) that is the highest NCC, of several about as good the middle one,
    which shows the most. Where slices are flagged by p alone it is the most similar one.
    """
    flagged = rows[slices["flagged"][rows].astype(bool)]
    copied = rows[np.isin(slices["match_class"][rows].astype(str), [str(c) for c in COPIED])]
    if len(flagged) and not len(copied):
        return int(flagged[np.argmax(slices["similarity"][flagged])])
    rows = copied if len(copied) else rows
    ncc = slices["ncc"][rows].astype(float)
    if np.isfinite(ncc).any():
        best = rows[ncc >= np.nanmax(ncc) - 0.005]
        return int(best[len(best) // 2])
    return int(rows[np.argmax(slices["similarity"][rows])])


def draw(
    slices: dict[str, NDArray[Any]],
    volumes: dict[str, NDArray[Any]],
    images: Images,
    pairs: Sequence[Pair | None],
    reference: Reference,
    training: TrainingImages,
) -> Pictures:
    """Draw the strongest match of each of the shown volumes whose training image can be had."""
    result = Pictures()
    stacks: dict[str, list[NDArray[np.uint8]]] = {"query": [], "training": [], "agreement": []}
    for volume in shown_volumes(volumes):
        rows = np.flatnonzero(slices["volume"] == volumes["volume"][volume])
        row = strongest_slice(slices, rows)
        pair = pairs[row]
        if pair is None:
            continue
        number = int(reference.slice_number[pair.row])
        loaded = training.load(int(reference.slice_volume[pair.row]), [number])
        if number not in loaded:
            continue
        query = images[row].astype(np.float32)
        result.rows.append(row)
        stacks["query"].append(_bytes(query))
        stacks["training"].append(_bytes(aligned_image(loaded[number], pair.match)))
        stacks["agreement"].append(_bytes(agreement_map(query, loaded[number], pair.match)))
    result.images = {key: np.stack(stack) for key, stack in stacks.items() if stack}
    return result


def _bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    result: NDArray[np.uint8] = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return result
