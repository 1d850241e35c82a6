"""What the numbers mean: hypothesis, method in ten lines, power, calibration on controls, what was skipped, limits."""

from __future__ import annotations

from typing import Any

from memorization_index.augmentations import WORDS
from memorization_index.report.markup import table, text
from memorization_index.report.summary import LISTED
from memorization_index.verdicts import FLAG_P, VOLUME_P
from memorization_index.words import plural

#: Below this p (Kolmogorov–Smirnov) a run's images that are no copies are said to lie otherwise than the null.
DIFFERENT_P = 0.01


def hypothesis(run: dict[str, Any]) -> str:
    """What is tested, against what."""
    if not run["calibration"]["calibrated"]:
        return (
            "<p>No hypothesis is tested: there are too few training subjects for a null. Verdicts rest on the class of "
            "verified matches alone.</p>"
        )
    subjects = run["calibration"]["null_subjects"]
    return (
        f"<p>Null hypothesis, for each slice and each image: it is no closer to the training set than a real scan of a "
        f"new person is. A small p speaks against it. How close new people come was measured on {subjects} training "
        f"subjects, each scored as if it were new. p is approximate: whitening and folds are shared by subjects, and "
        f"generated images are not scans (see limits).</p>"
    )


def method(run: dict[str, Any]) -> str:
    """The method in ten lines."""
    calibration = run["calibration"]
    thresholds = calibration["thresholds"]
    lines = [
        "Volumes are turned to one orientation and cut into slices of one plane; slices become square pictures, with "
        "intensities scaled over what is not background. Empty slices are left out.",
        f"Each slice is described by numbers (encoder {run['encoder']['name']}), whitened on the training set.",
        "It is compared with every training slice under mirrors, quarter turns, rotations and scales; similarity is "
        "the largest cosine of the strongest channel (kind of description), on a scale on which all channels have the "
        "same null.",
        "The best candidates are aligned with the slice and compared in fine detail (band-passed normalized "
        "cross-correlation, NCC).",
        f"Class: exact (same pixels), copy (NCC ≥ {thresholds['copy_ncc']:.2f}, {thresholds['copy_source']}), altered "
        f"copy (NCC ≥ {thresholds['altered_ncc']:.2f}, {thresholds['altered_source']}), same anatomy (no more alike "
        f"than two scans of one person), else novel.",
    ]
    if calibration["calibrated"]:
        lines += [
            _null(run),
            "MI = (similarity − mean) / deviation of the null where in the body the match lies; ONI = −tanh(MI): −1 "
            "memorized, 0 typical, +1 novel. An image's own MI and p compare its largest MI with the largest over as "
            "many slices of left-out people.",
            "p: how often a new person's real scan is at least this similar. q (in slices.csv and volumes.csv): p "
            "adjusted for the number of slices or images (Benjamini–Hochberg).",
        ]
    else:
        lines.append("Too few training subjects for a null: MI, ONI, p and q are not given.")
    lines += [
        f"A slice is flagged when its class is exact, copy or altered copy, or its p ≤ {FLAG_P}.",
        f"Verdict: copy — any slice exact or copy, or p ≤ {VOLUME_P} of the image with altered copies or with half of "
        f"its slices flagged and following one training volume in order (at least three, none same anatomy); "
        f"suspicious — p ≤ {VOLUME_P}, altered copies or same anatomy; otherwise no evidence, or uncalibrated where "
        f"that cannot be said (too few training subjects, a generator that p does not fit, or training images that "
        f"could not be read).",
    ]
    return "<ol>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ol>"


def _null(run: dict[str, Any]) -> str:
    """Which similarities are the null."""
    calibration = run["calibration"]
    given = run.get("null_from", "")
    if given.endswith("novel samples"):
        return f"The null: {calibration['null_slices']} slices of {given} of a model that never saw this training set."
    return (
        f"The null: {calibration['null_slices']} training slices of {calibration['null_subjects']} subjects, each "
        f"scored as if its subject were new (whitening and training slices of its fold left out)."
    )


def power(run: dict[str, Any]) -> str:
    """How many planted copies this reference finds, as measured when it was built; said where it was not measured."""
    smallest = ""
    if run["calibration"]["calibrated"]:
        calibration = run["calibration"]
        smallest = (
            f"<p>The smallest p that this reference can give: {calibration['smallest_slice_p']:.4f} for a slice, "
            f"{calibration['smallest_volume_p']:.3f} for an image; a lone copy in this run would get q = "
            f"{run['smallest']['slice_q_of_one_copy']:.3f} at best{_lone(run['smallest']['slice_q_of_one_copy'])}.</p>"
        )
    rows = (run.get("power") or {}).get("augmentations", [])
    if not rows:
        return f"<p>Not measured for this reference: how many altered copies it would find is not known.</p>{smallest}"
    cells = [
        [
            text(WORDS.get(row["augmentation"], row["augmentation"])),
            f"{row['found']} of {row['copies']} ({_percent(row['found'], row['copies'])})",
            f"{row['named']} of {row['copies']}",
            f"{row['flagged']} of {row['controls']} ({_percent(row['flagged'], row['controls'])})",
        ]
        for row in rows
    ]
    return (
        "<p>Measured when the reference was built: copies of training slices were altered and scored, and so were "
        "slices of left-out people, altered in the same way. Copies found: flagged. Right person named: of these, "
        "matched to the person whose slice was copied. Others flagged: slices of left-out people with p ≤ .01, which "
        "about 1 % have by chance.</p>"
        + table(("Alteration", "Copies found", "Right person named", "Others flagged"), cells, "power card")
        + smallest
    )


def _lone(q: float) -> str:
    """What a large q of one copied slice means."""
    if q <= VOLUME_P:
        return ""
    return (
        ": among so many slices chance alone would bring one as near about as often, so q cannot tell a single copied "
        "slice from chance. Its class and its picture can"
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def controls(run: dict[str, Any]) -> str:
    """How often real scans that were never trained on are flagged."""
    found = run.get("controls")
    generator = _generator(run.get("generator") or {}) if run["calibration"]["calibrated"] else ""
    if not found:
        return (
            f"{generator}<p>No control scans (real, never trained on) were given when the reference was built: that "
            "the false alarm rate is what p says was not checked on scans from outside of the training set.</p>"
        )
    said = (
        f"{found['volumes']} real {plural('image', found['volumes'])} ({found['slices']} slices) that were never "
        f"trained on: {found['verdict_copy']} got the verdict copy"
    )
    if found["at_1_percent"] is not None:
        said += (
            f"; slices with p ≤ .01: {_rate(found, 'at_1_percent')} (expected 1 %), with p ≤ .05: "
            f"{_rate(found, 'at_5_percent')} (expected 5 %)"
        )
    return f"{generator}<p>{text(said)}.</p>"


def _rate(found: dict[str, Any], key: str) -> str:
    """A rate in percent, with its interval over whole volumes where there is one."""
    interval = found.get(f"{key}_interval")
    between = f", 95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %" if interval else ""
    return f"{100 * found[key]:.1f} %{between}"


def _generator(found: dict[str, Any]) -> str:
    """Whether the null fits the images that are no copies: generated ones are not exchangeable with scans."""
    if not found:
        return ""
    if found["p_calibrated"] is None:
        return (
            "<p>There were too few images without flagged slices to check whether p is right for their generator.</p>"
        )
    said = (
        f"Compared with the null were the {found['slices']} slices, of {found['volumes']} images, that are neither "
        f"flagged nor of the class same anatomy. Their median lies "
        f"{found['shift']:+.1f} standard deviations of the null toward the training set"
    )
    if found["p_calibrated"] and found["shift"] > 0 and found["ks_p"] < DIFFERENT_P:
        return (
            f"<p>{said}. That is within the limit of {found['limit']:g}, but they do lie nearer (Kolmogorov–Smirnov "
            f"p = {found['ks_p']:.1g}): for these images p is smaller than it should be. A p near .01 says less than "
            f"it does of scans; look at the pictures.</p>"
        )
    if found["p_calibrated"]:
        return f"<p>{said}, within the limit of {found['limit']:g}: p may be read as it is.</p>"
    return (
        f"<p><strong>p is not calibrated for this generator.</strong> {said}, beyond the limit of {found['limit']:g}: "
        f"these images look more like the training set than new people's scans do. Verdicts rest on verified matches "
        f"alone.</p>"
    )


def skipped(run: dict[str, Any]) -> str:
    """What was not examined, and why."""
    items = [text(s["reason"]) for s in run["skipped"]]
    if missing := run["counts"]["training_volumes_missing"]:
        items.append(
            f"{missing} training {plural('image', missing)} were not there or had changed; their matches are not "
            f"verified (to have that done, score again where they are)."
        )
    if not items:
        return "<p>Nothing was skipped.</p>"
    more = f'<p class="note">{len(items) - LISTED} more are in run.json.</p>' if len(items) > LISTED else ""
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items[:LISTED]) + f"</ul>{more}"


def limits(run: dict[str, Any]) -> str:
    """What must not be concluded."""
    items = [
        "This is evidence of copying, not proof of its absence: a volume that is not flagged is not proven novel.",
        "p is calibrated for real scans of new people. Generated images are smoother and nearer to the mean, so p may "
        "be off for them; a verified class (exact, copy) does not depend on p.",
        "Only the training set of this reference was compared, in one plane. What is not in it, or only seen in "
        "another plane, cannot be found.",
        "Copies that are altered beyond what was measured under power, or a small part of a slice, can be missed.",
        "The same person scanned twice, or in the training set under two names, looks like a copy or nearly so.",
        "Whether an image identifies a person, and what follows from that, is not decided here.",
    ]
    if run["calibration"]["calibrated"]:
        items.insert(
            2,
            f"About {100 * VOLUME_P:.0f} % of novel images have p ≤ {VOLUME_P} by chance and are then suspicious: such "
            f"a verdict asks for a look, no more.",
        )
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def provenance(run: dict[str, Any]) -> str:
    """What was compared with what, by which version, with which settings."""
    reference, encoder = run["reference"], run["encoder"]
    counts = reference["counts"]
    rows = [
        ("Protocol", run["protocol"]),
        ("Reference (SHA-256)", reference["fingerprint"] or "in memory"),
        ("Training set", f"{counts['subjects']} subjects, {counts['volumes']} images, {counts['slices']} slices"),
        ("Plane", reference["plane"]),
        ("Encoder", f"{encoder['name']} ({encoder['fingerprint']})"),
        ("Encoder's weights (SHA-256)", encoder.get("weights_sha256") or "none"),
        ("Inputs", _inputs(run)),
        ("Parameters", _pairs(run.get("parameters", {}))),
        ("Seed", run["seed"]),
        ("Versions", _pairs({"memorization-index": run["version"], **run["versions"]})),
        ("Scored", run.get("created") or "not recorded"),
    ]
    return table(("", ""), [[text(a), text(b)] for a, b in rows], "provenance")


def _inputs(run: dict[str, Any]) -> str:
    inputs = run.get("inputs") or {}
    if not inputs.get("sha256"):
        return "in memory"
    return f"{inputs['files']} {plural('file', inputs['files'])}; SHA-256 over theirs (inputs.csv) {inputs['sha256']}"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in sorted(values.items()))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_pairs(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)
