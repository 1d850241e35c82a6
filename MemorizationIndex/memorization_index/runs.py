"""The record of one run of ``score``: what was examined with what, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from memorization_index._version import __version__
from memorization_index.cohort import Skipped
from memorization_index.provenance import digest_of, timestamp, versions
from memorization_index.reference import Reference
from memorization_index.scores import Columns
from memorization_index.verdicts import Verdict
from memorization_index.verification import TrainingImages


def run_of(
    reference: Reference, slices: Columns, volumes: Columns, skipped: Sequence[Skipped], training: TrainingImages
) -> dict[str, Any]:
    """What ``run.json`` holds of a run, without its inputs, its generator and the seconds that it took."""
    count, calibration = len(slices["volume"]), reference.manifest["calibration"]
    run: dict[str, Any] = {
        "kind": "memorization-index result",
        "schema": 1,
        "version": __version__,
        "versions": versions(reference.manifest["encoder"]["name"]),
        "created": timestamp(),
        "inputs": digest_of([]),
        **from_reference(reference),
        "counts": {
            "volumes": len(volumes["volume"]),
            "slices": count,
            "flagged": int(slices["flagged"].sum()),
            "skipped": len(skipped),
            "training_volumes_missing": len(training.missing),
        },
        "verdicts": {str(v): int((volumes["verdict"] == str(v)).sum()) for v in Verdict},
        "skipped": [asdict(s) for s in skipped],
    }
    if calibration["calibrated"]:
        run["smallest"] = smallest(calibration, count, len(volumes["volume"]))
    return run


def from_reference(reference: Reference) -> dict[str, Any]:
    """What a run has from its reference."""
    manifest = reference.manifest
    return {
        "protocol": manifest["protocol"],
        "parameters": manifest["parameters"],
        "reference": {
            "path": str(reference.folder) if reference.folder else None,
            "fingerprint": reference.fingerprint if "files" in manifest else None,
            "counts": manifest["counts"],
            "plane": reference.plane,
            "pseudonymized": "pseudonyms" in manifest,
        },
        "encoder": manifest["encoder"],
        "seed": manifest["seed"],
        "calibration": manifest["calibration"],
        "controls": manifest.get("controls"),
        "power": manifest.get("power"),
        "null_from": manifest.get("null_from", "training subjects left out"),
    }


def smallest(calibration: dict[str, Any], slices: int, volumes: int) -> dict[str, float]:
    """The smallest p that a run of so many slices and volumes can give, and the q of one lone copy in it."""
    return {
        "slice_p": calibration["smallest_slice_p"],
        "volume_p": calibration["smallest_volume_p"],
        # Benjamini–Hochberg for one lone copy among all slices of this run.
        "slice_q_of_one_copy": min(1.0, slices * calibration["smallest_slice_p"]),
        "volume_q_of_one_copy": min(1.0, volumes * calibration["smallest_volume_p"]),
    }
