"""Protocol ``paper-v1``: the Memorization Index as published (arXiv 2602.13066, Eq. 2–6), in float64.

The paper's null draws rows, not subjects, so that slices of one person fall into both halves, and compares with half
of the training rows where queries are compared with all of them. Its numbers are therefore the paper's, and no
calibrated evidence: that is what ``mi-v1`` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memorization_index.errors import MemorizationIndexError
from memorization_index.features import LayerFeatures, check_same_layers, checked_features, checked_groups
from memorization_index.whitening import Moments

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
#: Rows that are compared (A) with which rows (B), for each split of the training set.
Splits = list[tuple[Rows, Rows]]

#: ε of Eq. 2 (added to the covariance) and of Eq. 4 (added to each similarity).
EPSILON = 1e-6
#: Added to the null's variance in Eq. 5.
VARIANCE_FLOOR = 1e-8
#: Splits of the training set into halves, and the seed with which the published runs draw them.
SPLITS, SPLIT_SEED = 10, 1234
#: The paper flags a sample whose ONI is below this value.
THRESHOLD = 0.68
#: A layer with fewer rows than this many times its features is refused: whitened, its rows become equidistant.
ROWS_PER_FEATURE = 2
#: This many similarities are held at once (memory: 8 bytes each).
_BLOCK = 4_000_000


@dataclass(frozen=True)
class PaperWhitening:
    """Eq. 2: ``mean`` ``(D,)`` and ``matrix`` ``(D, D)`` = (C + εI)^(−1/2), the covariance C taken with N − 1."""

    mean: Floats
    matrix: Floats

    @classmethod
    def fit(cls, features: Floats) -> PaperWhitening:
        """Fit on features ``(N, D)`` of at least two rows."""
        moments = Moments.of(features)
        values, vectors = np.linalg.eigh(moments.second / (moments.count - 1))
        # A covariance has no negative eigenvalue; rounding gives some, which ε may not outweigh for large features.
        return cls(moments.mean, (vectors / np.sqrt(np.clip(values, 0, None) + EPSILON)) @ vectors.T)

    def __call__(self, features: Floats) -> Floats:
        """Whitened unit vectors ``(n, D)``; a feature equal to the mean stays zero."""
        white = (features - self.mean) @ self.matrix
        norms = np.linalg.norm(white, axis=1, keepdims=True)
        result: Floats = np.divide(white, norms, out=np.zeros_like(white), where=norms > 0)
        return result


@dataclass(frozen=True)
class Neighbors:
    """Eq. 3 for each of ``n`` samples: highest cosine (not clipped), its training row, and its lead over the second."""

    similarity: Floats
    row: Rows
    margin: Floats

    @classmethod
    def find(cls, samples: Floats, training: Floats) -> Neighbors:
        """Search unit vectors ``(n, D)`` in ``(N, D)``, N at least 2, block by block."""
        step = max(1, _BLOCK // len(training))
        found = cls(np.zeros(len(samples)), np.zeros(len(samples), np.int64), np.zeros(len(samples)))
        for start in range(0, len(samples), step):
            part = slice(start, start + step)
            cosines = samples[part] @ training.T
            best = cosines.argmax(axis=1)[:, None]
            found.row[part] = best[:, 0]
            found.similarity[part] = np.take_along_axis(cosines, best, 1)[:, 0]
            np.put_along_axis(cosines, best, -np.inf, 1)
            found.margin[part] = found.similarity[part] - cosines.max(axis=1)
        return found


def half_splits(count: int, seed: int = SPLIT_SEED, splits: int = SPLITS) -> Splits:
    """Disjoint halves of ``count`` rows, each pair a permutation cut in the middle (an odd row goes to B)."""
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(count).astype(np.int64) for _ in range(splits)]
    return [(order[: count // 2], order[count // 2 :]) for order in orders]


def agreement_with_first(rows: Rows) -> Rows:
    """How many layers of ``(layers, n)`` name the same row as the first layer: what the published code counts."""
    named: Rows = (rows == rows[0]).sum(axis=0, dtype=np.int64)
    return named


def most_named(rows: Rows) -> tuple[Rows, Rows]:
    """The row that most layers of ``(layers, n)`` name, in a tie the earliest layer's, and how many name it (paper)."""
    votes: Rows = (rows[:, None] == rows[None]).sum(axis=1, dtype=np.int64)
    layer = votes.argmax(axis=0)[None]
    return np.take_along_axis(rows, layer, 0)[0], votes.max(axis=0)


def aggregated(similarities: Mapping[str, Floats]) -> Floats:
    """Eq. 4: geometric mean over layers of s + ε, similarities ``(n,)`` clipped to [0, 1]; 1 + ε for an exact copy."""
    logs = [np.log(np.clip(values, 0, 1) + EPSILON) for values in similarities.values()]
    result: Floats = np.exp(np.mean(logs, axis=0))
    return result


class PaperProtocol:
    """Similarity, MI and ONI by the paper's equations from features ``{layer: (n, D)}``.

    Parameters
    ----------
    null_splits
        Pairs (rows of A, rows of B) of training rows; A is compared with B. Default: 10 disjoint halves.
    null
        ``global``: the whitening fitted on all training rows serves every split, as in the published code;
        ``refitB``: whitening is fitted again on the B rows of each split.
    seed
        Draws the default splits; 1234 gives those of the published code.
    threshold
        ``flagged_paper`` is true for an ONI below it.

    Attributes
    ----------
    layers_, groups_
        Layers in the order of ``fit``; the subject of each training row ``(N,)``.
    whitenings_
        :class:`PaperWhitening` of each layer: ``mean`` ``(D,)`` and ``matrix`` ``(D, D)``.
    null_similarities_, null_samples_
        Not clipped similarity of each layer, and Eq. 4 of them: ``(k,)``, the A rows of all splits in order.
    null_mean_, null_deviation_
        μ and σ of Eq. 5.
    """

    def __init__(
        self,
        null_splits: Sequence[tuple[Any, Any]] | None = None,
        null: Literal["global", "refitB"] = "global",
        seed: int = SPLIT_SEED,
        threshold: float = THRESHOLD,
    ) -> None:
        if null not in {"global", "refitB"}:
            raise MemorizationIndexError(f"null={null!r}: is not known; expected 'global' or 'refitB'.")
        if not -1 <= threshold <= 1:
            raise MemorizationIndexError(f"threshold={threshold!r}: is no value of ONI; expected one from -1 to 1.")
        self.null_splits, self.null, self.seed, self.threshold = null_splits, null, seed, threshold

    def fit(self, features: LayerFeatures, groups: Sequence[Any] | NDArray[Any] | None = None) -> PaperProtocol:
        """Fit on training features; ``groups`` ``(N,)`` names each row's subject, for the matches alone.

        Raises :class:`MemorizationIndexError` where a layer has fewer than 2·D rows, or splits do not fit the rows.
        """
        arrays = checked_features(features, np.float64)
        for layer, values in arrays.items():
            _check_size(layer, *values.shape)
        count = len(next(iter(arrays.values())))
        splits = half_splits(count, self.seed) if self.null_splits is None else checked_splits(self.null_splits, count)
        if self.null == "refitB":
            _check_halves(splits, {layer: values.shape[1] for layer, values in arrays.items()})
        self.groups_ = np.array(checked_groups(groups, count), object)
        self.layers_ = tuple(arrays)
        self.whitenings_ = {layer: PaperWhitening.fit(values) for layer, values in arrays.items()}
        self._white = {layer: self.whitenings_[layer](values) for layer, values in arrays.items()}
        self.null_similarities_ = {
            layer: np.concatenate([self._null_similarities(layer, values, *split) for split in splits])
            for layer, values in arrays.items()
        }
        self.null_samples_ = aggregated(self.null_similarities_)
        self.null_mean_ = float(self.null_samples_.mean())
        self.null_deviation_ = float(np.sqrt(self.null_samples_.var() + VARIANCE_FLOOR))
        return self

    def score_samples(self, features: LayerFeatures) -> dict[str, NDArray[Any]]:
        """Score samples; returns columns ``(m,)``, numbers in float64.

        ``similarity`` (Eq. 4, up to 1 + ε), ``distance`` = 1 − similarity, ``mi``, ``oni`` (Eq. 6), ``flagged_paper``;
        ``match``, the training row that most layers name, in a tie the earliest layer's, and ``match_group``;
        ``consensus_mode`` = ``layer_agreement``, the layers that name that row, and ``consensus_first``, the layers
        that name the first layer's; and for each layer ``similarity_<layer>`` in [0, 1], ``similarity_raw_<layer>``
        (not clipped), ``nearest_<layer>`` and ``margin_<layer>`` (lead over the second nearest row).
        """
        if not hasattr(self, "layers_"):
            raise MemorizationIndexError("PaperProtocol: is not fitted; call fit with training features first.")
        arrays = checked_features(features, np.float64)
        check_same_layers(arrays, {layer: len(self.whitenings_[layer].mean) for layer in self.layers_})
        found = {
            layer: Neighbors.find(self.whitenings_[layer](arrays[layer]), self._white[layer]) for layer in self.layers_
        }
        similarity = aggregated({layer: near.similarity for layer, near in found.items()})
        mi = (similarity - self.null_mean_) / self.null_deviation_
        rows = np.stack([near.row for near in found.values()])
        match, agreement = most_named(rows)
        columns: dict[str, NDArray[Any]] = {
            "similarity": similarity,
            "distance": 1 - similarity,
            "mi": mi,
            "oni": -np.tanh(mi),
            "flagged_paper": -np.tanh(mi) < self.threshold,
            "match": match,
            "match_group": self.groups_[match],
            "layer_agreement": agreement,
            "consensus_first": agreement_with_first(rows),
            "consensus_mode": agreement,
        }
        for layer, near in found.items():
            columns[f"similarity_{layer}"] = np.clip(near.similarity, 0, 1)
            columns[f"similarity_raw_{layer}"] = near.similarity
            columns[f"nearest_{layer}"] = near.row
            columns[f"margin_{layer}"] = near.margin
        return columns

    def _null_similarities(self, layer: str, values: Floats, a: Rows, b: Rows) -> Floats:
        """Similarities of rows A to rows B of one split, not clipped ``(len(a),)``."""
        if self.null == "global":
            return Neighbors.find(self._white[layer][a], self._white[layer][b]).similarity
        whitening = PaperWhitening.fit(values[b])
        return Neighbors.find(whitening(values[a]), whitening(values[b])).similarity


def checked_splits(splits: Sequence[tuple[Any, Any]], count: int) -> Splits:
    """Splits as pairs of integer rows; raises :class:`MemorizationIndexError` where they do not fit ``count`` rows."""
    checked = []
    for number, split in enumerate(splits):
        try:
            a, b = (np.asarray(part) for part in split)
        except (TypeError, ValueError):
            raise MemorizationIndexError(
                f"null_splits: split {number} is no pair of lists; expected (rows of A, rows of B)."
            ) from None
        for rows, least in ((a, 1), (b, 2)):  # two rows of B, so that there is a second nearest
            fits = rows.ndim == 1 and len(rows) >= least and rows.dtype.kind in "iu"
            if not fits or rows.min() < 0 or rows.max() >= count:
                raise MemorizationIndexError(
                    f"null_splits: split {number} does not name training rows; expected at least one row of A and two "
                    f"of B, each a whole number from 0 to {count - 1}."
                )
        if np.intersect1d(a, b).size:
            raise MemorizationIndexError(
                f"null_splits: A and B of split {number} have rows in common; expected disjoint rows."
            )
        checked.append((a.astype(np.int64), b.astype(np.int64)))
    if not checked:
        raise MemorizationIndexError("null_splits: is empty; expected pairs (rows of A, rows of B), or None.")
    return checked


def _check_size(layer: str, count: int, dimension: int) -> None:
    if count < ROWS_PER_FEATURE * dimension:
        raise MemorizationIndexError(
            f"Layer {layer} has N = {count} training rows for D = {dimension} features; paper-v1 needs N ≥ "
            f"{ROWS_PER_FEATURE * dimension} (2·D), as whitening fewer makes all rows equidistant: use protocol mi-v1."
        )


def _check_halves(splits: Splits, dimensions: Mapping[str, int]) -> None:
    """Refuse splits whose B rows cannot have a covariance of full rank."""
    fewest = min(len(np.unique(b)) for _, b in splits)
    for layer, dimension in dimensions.items():
        if fewest <= dimension:
            raise MemorizationIndexError(
                f"null='refitB': a split leaves {fewest} rows to whiten layer {layer} with D = {dimension} features; "
                "expected more rows than features: use null='global' or protocol mi-v1."
            )
