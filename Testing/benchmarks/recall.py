"""How many altered copies cells lose on real scans: ``python Testing/benchmarks/recall.py SCANS [--queries N]``.

All slices of the scans (a folder or a table) are the training set. Slices of it are altered by each augmentation that
needs no second picture and examined twice, as ``score`` does: by the exact search, and through cells. Prints JSON: for
each channel the queries whose exact similarity exceeds the null's 99th percentile (by the exact search too), and how
many of these have the same nearest slice through cells (or one as similar); and the same of the one similarity that
all channels are joined to. For shares of all pairs of a view and a cell that are looked into; so few slices would get a
share above 1: ``--shares`` are what larger training sets are given (1 / 8 at the least).
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex")]

import numpy as np  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index.augmentations import AUGMENTATIONS, SMALLEST_SIDE  # noqa: E402
from memorization_index.calibration import Null  # noqa: E402
from memorization_index.channels import EmbeddedDescriber  # noqa: E402
from memorization_index.clustered import Cells, ClusteredIndex  # noqa: E402
from memorization_index.cohort import Entry, find_volumes  # noqa: E402
from memorization_index.combining import CommonScale  # noqa: E402
from memorization_index.encoding import chosen_plane, encode, read_slices  # noqa: E402
from memorization_index.matching import use_cores  # noqa: E402
from memorization_index.neighbors import Probing  # noqa: E402
from memorization_index.nulls import NullBuilder, chosen_volumes  # noqa: E402
from memorization_index.power import FULL, PowerCard  # noqa: E402
from memorization_index.progress import Progress  # noqa: E402
from memorization_index.reference import Reference  # noqa: E402
from memorization_index.retrieval import Retrieved, Retriever, concatenated, joined_null  # noqa: E402
from memorization_index.slices import SliceStack, normalized  # noqa: E402
from memorization_index.whitening import Whitening  # noqa: E402

DESCRIBER = EmbeddedDescriber()
#: Names the one similarity of all channels among theirs.
JOINED = "joined"


def fitted(entries: list[Entry], folder: Path) -> tuple[Reference, CommonScale, dict[str, float]]:
    """The whitened training set, the channels' scale, and by channel (and joined) the 99th percentile of its null."""
    plane = chosen_plane(entries, "native")
    encoded = encode(entries, plane, DESCRIBER, folder, Progress())
    volumes = [one.volume for one in encoded.volumes]
    sizes = [len(one.numbers) for one in encoded.volumes]
    numbers = np.concatenate([one.numbers for one in encoded.volumes])
    of_slice = np.repeat(np.arange(len(volumes)), sizes)
    manifest = {"plane": plane}
    reference = Reference(manifest, volumes, of_slice, numbers, encoded.features, {}, Null.empty(), np.zeros(0))
    builder = NullBuilder(reference, DESCRIBER, 0, Progress())
    moments = builder.moments()
    reference.whitenings = {c: Whitening.fit(whole, DESCRIBER.shrinkage[c]) for c, whole in moments.items()}
    chosen = chosen_volumes([v.subject for v in volumes], [v.name for v in volumes], sizes, 0)
    card, found, subjects = PowerCard.named("none", DESCRIBER, 0), list[Retrieved](), list[int]()
    for work in builder.work(chosen, 1, {entry.name: entry for entry in entries}, card):
        for part in builder.fold_parts(work, moments, card):
            found += part.found
            subjects += [int(reference.subject_labels[part.volume])] * len(part.images)
    nearest = concatenated(found)
    joined, scale = joined_null(nearest, np.array(subjects))
    similarity = {c: one.similarity[:, 0] for c, one in nearest.items()} | {JOINED: joined.similarity}
    return reference, scale, {c: float(np.quantile(values, 0.99)) for c, values in similarity.items()}


def altered(entries: list[Entry], plane: str, number: int) -> SliceStack | None:
    """A slice of a volume, both chosen at random, altered by the augmentation whose turn it is."""
    random = np.random.default_rng([0, number])
    _, stack = read_slices(entries[random.integers(len(entries))], plane)
    place = random.integers(len(stack.images))
    if min(stack.images[place].shape) < SMALLEST_SIDE:
        return None
    image = AUGMENTATIONS[FULL[number % len(FULL)]].apply(normalized(stack.images[place]), random)
    return SliceStack([image], stack.spacing, stack.numbers[[place]], stack.total, stack.plane)


def counted(found: Retrieved, exact: Retrieved, limits: dict[str, float], into: dict[str, list[int]]) -> None:
    """Count, by channel, a query above the limit, and whether its nearest slice is the exact one (or as similar)."""
    for channel, limit in limits.items():
        known, nearest = (
            one.similarity[0] if channel == JOINED else one.nearest[channel].similarity[0, 0] for one in (exact, found)
        )
        if known > limit:
            into[channel][0] += 1
            into[channel][1] += bool(nearest > known - 1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--queries", type=int, default=1500)
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 2, 1 / 4, 1 / 8, 1 / 16])
    options = parser.parse_args()
    use_cores(1)
    entries = sorted(find_volumes(options.scans).entries, key=lambda entry: entry.name)
    with tempfile.TemporaryDirectory() as temporary:
        reference, scale, limits = fitted(entries, Path(temporary) / "units")
        white, stored = reference.whitenings, reference.features
        exact = Retriever(white, {c: reference.bank(c, w) for c, w in white.items()}, scale)
        banks = {c: ClusteredIndex(Cells.of(stored[c], w), stored[c], w) for c, w in white.items()}
        cells = Retriever(white, banks, scale)
        into: dict[float, Any] = {share: {channel: [0, 0] for channel in limits} for share in options.shares}
        asked = (altered(entries, reference.plane, number) for number in range(options.queries))
        for stack in filter(None, asked):
            known = exact.examine(DESCRIBER, [stack])[0]
            for share in options.shares:
                Probing.share_among = lambda _probing, _slices, share=share: share
                counted(cells.examine(DESCRIBER, [stack])[0], known, limits, into[share])
    recall = {
        share: {c: {"counted": n, "found": k, "recall": round(k / n, 4) if n else None} for c, (n, k) in found.items()}
        for share, found in into.items()
    }
    result = {"slices": len(reference.slice_number), "subjects": int(reference.subject_labels.max()) + 1}
    print(
        json.dumps(
            {"processor": processor(), **result, "limits": limits, "queries": options.queries, "recall": recall},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
