"""Build a reference: find, encode, whiten, calibrate, save."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorization_index._version import __version__
from memorization_index.bundle import SCHEMA, check_place, is_reference
from memorization_index.calibration import MINIMUM_SUBJECTS, Null
from memorization_index.channels import Describer, make_describer
from memorization_index.cluster import Cluster, connected
from memorization_index.clustered import CLUSTERED_FROM, Cells
from memorization_index.cohort import Cohort, Skipped, find_volumes
from memorization_index.durable import exclusive
from memorization_index.encoding import Encoded, chosen_plane, encode, read_slices
from memorization_index.errors import MemorizationIndexError
from memorization_index.nulls import NullBuilder, NullResult
from memorization_index.power import CARDS, PowerCard
from memorization_index.progress import Progress
from memorization_index.provenance import timestamp, weights_sha256
from memorization_index.pseudonyms import check_home, home_key, pseudonymized, seal
from memorization_index.reference import Reference
from memorization_index.statistics import subject_interval
from memorization_index.thumbnails import check_kind, make_thumbnails
from memorization_index.verdicts import Thresholds
from memorization_index.volumes import PLANES
from memorization_index.words import counted

if TYPE_CHECKING:
    from memorization_index.encoders.mri_core import LayerScale
    from memorization_index.encoders.precision import Precision


@dataclass(frozen=True)
class Settings:
    """What a reference is built with (see the command line's help); ``key``: pseudonymize with the key in this file."""

    subjects: str | Path | None = None
    plane: str = "native"
    encoder: str = "spectral"
    weights: str | Path | None = None
    protocol: str = "mi-v1"
    controls: str | Path | None = None
    novel: str | Path | None = None
    power: str = "cheap"
    device: str = "auto"
    seed: int = 0
    cache: str | Path | None = None
    precision: Precision = "auto"
    layer_scale: LayerScale = "refuse"
    key: Path | None = None
    thumbnails: str = "none"
    scheduler: str | None = None


def build(
    inputs: Sequence[str | Path], out: str | Path | None, settings: Settings, progress: Progress | None = None
) -> Reference:
    """Fit a training set and save it to ``out`` (or keep it in memory where that is None).

    With a scheduler the workers of a Dask cluster do the work (see :mod:`.cluster`).

    An interrupted build leaves its finished units in ``.<out>.building``; the same command goes on from there. Raises
    :class:`MemorizationIndexError` where settings are wrong or no volume can be used.
    """
    progress = progress or Progress()
    _check(settings)
    check_scans(settings.controls, settings.novel)
    if settings.scheduler is not None and out is None:
        raise MemorizationIndexError(
            f"--scheduler {settings.scheduler}: needs a place that all workers see; expected --out, so name a folder."
        )
    with connected(settings.scheduler, progress) as cluster:
        return _build_with(cluster, inputs, out, settings, progress)


def check_scans(controls: str | Path | None, novel: str | Path | None) -> None:
    """Refuse controls or novel samples without an image before the work begins, which needs them at its end."""
    for option, path in (("--controls", controls), ("--novel", novel)):
        if path is None:
            continue
        try:
            cohort = find_volumes([path])
        except MemorizationIndexError as error:
            raise MemorizationIndexError(f"{option} {error}") from error
        if not cohort.entries:
            raise MemorizationIndexError(f"{option} {cohort.skipped[0].reason}")
        if option == "--novel" and len(cohort.entries) < MINIMUM_SUBJECTS:
            raise _too_few_novel(path, len(cohort.entries))


def _too_few_novel(novel: str | Path, count: int) -> MemorizationIndexError:
    return MemorizationIndexError(
        f"--novel {novel}: has {counted(count, 'usable volume')}; expected at least {MINIMUM_SUBJECTS} samples of a "
        f"model that never saw this training set, so give more or leave the option out."
    )


def _build_with(
    cluster: Cluster | None,
    inputs: Sequence[str | Path],
    out: str | Path | None,
    settings: Settings,
    progress: Progress,
) -> Reference:
    if out is not None:
        check_place(Path(out))
    describer = make_describer(
        settings.encoder,
        settings.weights,
        settings.device,
        settings.cache,
        settings.precision,
        settings.layer_scale,
    )
    cohort = find_volumes(inputs, settings.subjects)
    cohort.tell(progress)
    if not cohort.entries:
        raise MemorizationIndexError("No training image was found; expected at least one, so check the paths.")
    if out is not None:
        Path(out).absolute().parent.mkdir(parents=True, exist_ok=True)  # where the key lies too, unless one is named
    if settings.key is not None and out is not None:
        check_home(settings.key, Path(out))
    key = None if settings.key is None else home_key(settings.key, progress)
    if key is not None:
        cohort = pseudonymized(cohort, key)
    if out is not None and is_reference(Path(out)):
        progress.warning(f"{out}: holds a reference already; it is replaced when this one is complete.")
    if cohort.subjects_note:  # before the work begins
        progress.warning(cohort.subjects_note)
    # Whatever order files are given in, the same reference comes out.
    cohort.entries.sort(key=lambda entry: entry.name)
    plane = chosen_plane(cohort.entries, settings.plane)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="memorization-index-") as temporary:
            return in_memory(_build(cohort, plane, describer, settings, Path(temporary) / "units", progress, None))
    target = Path(out).absolute()
    workspace = target.with_name(f".{target.name}.building")
    with exclusive(workspace):
        reference = _build(cohort, plane, describer, settings, workspace, progress, cluster)
        if key is not None:
            seal(reference, key)
        reference.save(target)
        shutil.rmtree(workspace, ignore_errors=True)
    return reference


def _check(settings: Settings) -> None:
    check_kind(settings.thumbnails)
    if settings.protocol != "mi-v1":
        raise MemorizationIndexError(f"--protocol {settings.protocol}: is not known; expected 'mi-v1'.")
    if settings.power not in CARDS:
        raise MemorizationIndexError(f"--power {settings.power}: is not known; expected cheap, full or none.")
    if settings.plane not in (*PLANES, "native"):
        raise MemorizationIndexError(
            f"--plane {settings.plane}: is not known; expected axial, coronal, sagittal or native."
        )


def _build(
    cohort: Cohort,
    plane: str,
    describer: Describer,
    settings: Settings,
    workspace: Path,
    progress: Progress,
    cluster: Cluster | None,
) -> Reference:
    make_builder = None
    if cluster is None:
        encoded = encode(cohort.entries, plane, describer, workspace, progress)
    else:
        from memorization_index import cluster_building

        recipe = cluster_building.recipe_of(
            describer, settings.weights, settings.device, settings.cache, settings.layer_scale
        )
        encoded = cluster_building.encode_there(cohort.entries, plane, recipe, describer, workspace, cluster, progress)

        def make_builder(reference: Reference) -> NullBuilder:
            return cluster_building.ClusterNullBuilder(
                reference, describer, recipe, settings.seed, settings.power, workspace, cluster, progress
            )

    if not encoded.volumes:
        shutil.rmtree(workspace, ignore_errors=True)  # nothing in it could be gone on from
        raise MemorizationIndexError(
            f"None of the {len(cohort.entries)} training images can be used; the first reason: "
            f"{encoded.skipped[0].reason}"
        )
    return fit(cohort, encoded, plane, describer, settings, progress, make_builder)


def in_memory(reference: Reference) -> Reference:
    """The reference with its features read into memory, so that the files which they were mapped from can go."""
    reference.features = {c: [np.array(part) for part in parts] for c, parts in reference.features.items()}
    return reference


def fit(
    cohort: Cohort,
    encoded: Encoded,
    plane: str,
    describer: Describer,
    settings: Settings,
    progress: Progress,
    make_builder: Callable[[Reference], NullBuilder] | None = None,
) -> Reference:
    """Whitening, null and manifest of encoded volumes; ``cohort`` says where their images are, for the null."""
    volumes = [e.volume for e in encoded.volumes]
    slice_volume = np.concatenate([np.full(len(e.numbers), i) for i, e in enumerate(encoded.volumes)]).astype(np.int64)
    slice_number = np.concatenate([e.numbers for e in encoded.volumes])
    reference = Reference(
        _manifest(cohort, encoded, plane, describer, settings),
        volumes,
        slice_volume,
        slice_number,
        encoded.features,
        {},
        Null.empty(),
        np.zeros(0),
    )
    if make_builder is None:
        builder = NullBuilder(reference, describer, settings.seed, progress)
    else:
        builder = make_builder(reference)
    moments = builder.moments()
    reference.whitenings = {c: builder.whitening(c, whole, whole) for c, whole in moments.items()}
    if len(slice_volume) >= CLUSTERED_FROM:
        progress.begin("sorting for the search", len(slice_volume) * len(reference.features), "features")
        reference.cells = {
            c: Cells.of(parts, reference.whitenings[c], progress.advance) for c, parts in reference.features.items()
        }
    card = PowerCard.named(settings.power, describer, settings.seed)
    result = builder.build(moments, {entry.name: entry for entry in cohort.entries}, card)
    reference.null, reference.null_ncc = result.null, np.array([m.ncc for m in result.matches])
    reference.manifest["calibration"] = _scale(result)
    if settings.novel is not None:
        _replace_null(reference, describer, settings.novel, progress)
    _describe_calibration(reference, result, progress)
    rows = card.finish(reference, progress) if reference.null.is_calibrated else []
    reference.manifest["power"] = {"card": settings.power, "augmentations": rows}
    if settings.controls is not None:
        _check_controls(reference, settings, progress)
    by_name = {entry.name: entry for entry in cohort.entries}
    reference.thumbnails = make_thumbnails(reference, by_name, settings.thumbnails, progress)
    reference.manifest["thumbnails"] = settings.thumbnails
    return reference


def _replace_null(reference: Reference, describer: Describer, novel: str | Path, progress: Progress) -> None:
    """Take the null from samples of a model that never saw this training set (METHOD §3.10), a volume a person."""
    cohort = find_volumes([novel])
    progress.begin("scoring novel samples", len(cohort.entries), "volumes")
    found, sizes, skipped = [], [], list(cohort.skipped)
    for entry in cohort.entries:
        try:
            _, stack = read_slices(entry, reference.plane)
        except MemorizationIndexError as error:
            skipped.append(Skipped(str(entry.path), str(error)))
        else:
            found += reference.retriever.examine(describer, list(stack.batches()))
            sizes.append(len(stack.images))
        progress.advance()
    for one in skipped:
        progress.skipped(one.path, one.reason)
    if len(sizes) < MINIMUM_SUBJECTS:
        raise _too_few_novel(novel, len(sizes))
    similarity = np.concatenate([f.similarity for f in found])
    volume = np.repeat(np.arange(len(sizes)), sizes)
    position = reference.slice_position[np.concatenate([f.rows[:, 0] for f in found])]
    reference.null = Null(similarity, volume, volume, position)
    reference.manifest["null_from"] = f"{len(sizes)} novel samples"


def _manifest(cohort: Cohort, encoded: Encoded, plane: str, describer: Describer, settings: Settings) -> dict[str, Any]:
    skipped = cohort.skipped + encoded.skipped
    return {
        "kind": "memorization-index reference",
        "schema": SCHEMA,
        "version": __version__,
        "created": timestamp(),
        "protocol": settings.protocol,
        "plane": plane,
        "seed": settings.seed,
        "encoder": {
            "name": describer.name,
            "fingerprint": describer.fingerprint,
            "precision": describer.precision,
            "layer_scale": settings.layer_scale,
            "weights_sha256": weights_sha256(settings.weights or _folder_of(settings.encoder)),
            "channels": dict(describer.dimensions),
        },
        "parameters": {"shrinkage": dict(describer.shrinkage), "views": len(describer.views())},
        "counts": {
            "slices": sum(len(e.numbers) for e in encoded.volumes),
            "volumes": len(encoded.volumes),
            "subjects": len({e.volume.subject for e in encoded.volumes}),
            "empty_slices": sum(e.empty for e in encoded.volumes),
            "skipped": len(skipped),
        },
        "subjects_from": cohort.subject_sources,
        "skipped": [asdict(s) for s in skipped],
    }


def _folder_of(encoder: str) -> str | None:
    """The folder that holds the weights of an ``hf:`` encoder."""
    return encoder.removeprefix("hf:") if encoder.startswith("hf:") else None


def _scale(result: NullResult) -> dict[str, Any]:
    """The channels' scale, for the manifest (where keys are sorted: which channel is the first must be said)."""
    return {"knots": dict(result.scale.knots), "common_channel": result.scale.first}


def _describe_calibration(reference: Reference, result: NullResult, progress: Progress) -> None:
    """Write what the null allows into the manifest, and tell the user what it does not."""
    null, manifest = reference.null, reference.manifest
    calibration: dict[str, Any] = {
        "thresholds": asdict(Thresholds.from_null(result.matches, result.rescans)),
        "calibrated": null.is_calibrated,
    }
    if null.is_calibrated:
        calibration |= {
            "null_slices": len(null.similarity),
            "null_subjects": null.subjects,
            "null_step": null.step,
            "mean": null.mean,
            "deviation": null.deviation,
            "smallest_slice_p": null.smallest_slice_p,
            "smallest_volume_p": null.smallest_volume_p,
        }
    calibration |= _scale(result)
    manifest["calibration"] = calibration
    manifest["training_duplicates"] = [list(pair) for pair in result.duplicates]
    if not null.is_calibrated:
        progress.warning(
            f"The training set has {counted(manifest['counts']['subjects'], 'subject')}, fewer than the "
            f"{MINIMUM_SUBJECTS} that calibration needs: MI, ONI, p and q stay empty and verdicts rest on verified "
            f"matches alone."
        )
    if result.duplicates:
        first, second = result.duplicates[0]
        progress.warning(
            f"{len(result.duplicates)} pairs of training volumes of different subjects show the same picture (the "
            f"first: {first} and {second}); they are listed in the manifest and left out of the null."
        )


def _check_controls(reference: Reference, settings: Settings, progress: Progress) -> None:
    """Score real scans that were never trained on, and record how often they are flagged."""
    scores = reference.score(
        settings.controls or "",
        weights=settings.weights,
        device=settings.device,
        cache=settings.cache,
        progress=progress,
    )
    p = np.asarray(scores.slices["p_value"], float)
    known = np.isfinite(p)
    controls: dict[str, Any] = {
        "volumes": len(scores.volumes["volume"]),
        "slices": len(p),
        "verdict_copy": int((np.asarray(scores.volumes["verdict"]) == "copy").sum()),
    }
    for name, level in (("at_1_percent", 0.01), ("at_5_percent", 0.05)):
        below = p[known] <= level
        controls[name] = float(below.mean()) if known.any() else None
        # Slices of one volume are not independent: whole volumes are drawn.
        controls[f"{name}_interval"] = subject_interval(below, scores.slices["volume"][known]) if known.any() else None
    reference.manifest["controls"] = controls
