"""Channels of a trained network on what a real generator memorized; the features lie beside the checkout."""

import csv

import numpy as np
import pytest
from golden import FOLDER
from memorization_index.channels import DEEP_SHRINKAGE, projected
from memorization_index.neighbors import Index
from memorization_index.retrieval import Retriever, joined, joined_null
from memorization_index.whitening import Moments, Whitening

DATA = FOLDER.parent / "data" / "generated_ixi"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the generated set is not there ({DATA})")
STAGES = ("step_03120", "step_05311")


@pytest.fixture(scope="module")
def arrays():
    """LiteMedSAM's features of 120 training images, 222 people never trained on, and the samples of two stages."""
    with np.load(DATA / "litemedsam_features.npz", allow_pickle=False) as stored:
        return dict(stored)


def features(arrays, group):
    """By channel, as a describer makes them: 4×4 features cell by cell, and projected."""
    found = {}
    for layer in ("layer1", "layer2", "layer3", "neck"):
        found[f"{layer}.mean"] = arrays[f"{group}_{layer}_mean"].astype(np.float32)
        grid = arrays[f"{group}_{layer}_grid4"].astype(np.float32)
        cells = grid.reshape(len(grid), -1, 16).transpose(0, 2, 1).reshape(len(grid), -1)
        found[f"{layer}.grid4"] = projected(cells)
    return found


@pytest.fixture(scope="module")
def clear(arrays):
    """Which samples of a stage are clearly copies, and which clearly none."""
    with (DATA / "truth.csv").open() as stream:
        rows = {(row["checkpoint"], row["sample"]): row for row in csv.DictReader(stream)}
    masks = {}
    for stage in STAGES:
        own = [rows[stage, str(sample)] for sample in arrays[f"{stage}_sample"]]
        ncc, copied = (
            np.array([float(r["ncc_train"]) for r in own]),
            np.array([r["label"] == "memorized" for r in own]),
        )
        sure = (ncc <= 0.85) | (ncc >= 0.93)
        masks[stage] = (sure & copied, sure & ~copied)
    return masks


@pytest.fixture(scope="module")
def p_values(arrays):
    """p of each sample in each channel and combined; the null is the people never trained on."""
    training = features(arrays, "train")
    whitenings = {c: Whitening.fit(Moments.of(f), DEEP_SHRINKAGE) for c, f in training.items()}
    retriever = Retriever(whitenings, {c: Index(whitenings[c](f)) for c, f in training.items()})

    def found(group):
        return retriever.search({c: f[:, None, :] for c, f in features(arrays, group).items()}).nearest

    null = found("control")
    together, scale = joined_null(null, np.arange(len(arrays["control_file"])))
    known = {c: n.similarity[:, 0] for c, n in null.items()} | {"combined": together.similarity}

    def p(stage):
        nearest = found(stage)
        values = {c: n.similarity[:, 0] for c, n in nearest.items()} | {"combined": joined(nearest, scale).similarity}
        return {c: (1 + (known[c][None] >= v[:, None]).sum(axis=1)) / (len(known[c]) + 1) for c, v in values.items()}

    return {stage: p(stage) for stage in STAGES}


@pytest.mark.parametrize(("stage", "least"), [("step_03120", 0.8), ("step_05311", 0.95)])
def test_the_last_stages_keep_layout_and_find_the_copies_alone(clear, p_values, stage, least):
    copies, others = clear[stage]
    for channel in ("layer3.grid4", "neck.grid4"):
        assert (p_values[stage][channel][copies] <= 0.01).mean() >= least
        assert (p_values[stage][channel][others] <= 0.01).mean() <= 0.02
        mean = channel.replace("grid4", "mean")
        assert (p_values[stage][mean][copies] <= 0.01).mean() < (p_values[stage][channel][copies] <= 0.01).mean()


@pytest.mark.parametrize("stage", STAGES)
def test_together_they_lose_no_more_than_looking_eight_times_costs(clear, p_values, stage):
    copies, others = clear[stage]
    p = dict(p_values[stage])
    combined = p.pop("combined")
    for alpha in (0.05, 0.1):  # α/8 is more than the smallest p of 222 people
        best = max((one[copies] <= alpha / len(p)).mean() for one in p.values())
        assert best > 0.8
        assert (combined[copies] <= alpha).mean() >= best
    assert (combined[others] <= 0.01).mean() <= 0.05
