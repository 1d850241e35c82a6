"""A pipeline at MRI-CORE's full size: ``python Testing/benchmarks/full_size.py [--volumes N] [--slices S]``.

A ViT-B with random weights goes through what whoever has the weights will type: build a reference of volumes (of made
bodies), and score others. Prints JSON: for each command its processor seconds, those within the network (the encoder's
own time), what all the rest adds to them, the same by the clock, and pictures that went through the network (each
once). The network has one thread. With ``--cores 2`` reading, searching and verifying have other threads beside it, as
they have beside a GPU: the clock then says what is not overlapped (on two cores that do nothing else). Random weights
say nothing of detection. ``--evaluate`` runs ``evaluate`` in place of the two; ``--precision`` is that of the network:
the same with another one shows what it changes in MI (``mi`` are the query's slices).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing/library")]

import phantoms  # noqa: E402
import torch  # noqa: E402
from machine import processor  # noqa: E402
from memorization_index import Reference  # noqa: E402
from memorization_index.cli import main as command  # noqa: E402
from memorization_index.encoders.mri_core import MriCoreEncoder  # noqa: E402
from memorization_index.matching import use_cores  # noqa: E402
from vit_weights import random_weights  # noqa: E402

SIDE = 192


class Network:
    """Seconds of the processor and of the clock, and pictures, of the network, which is watched from outside."""

    def __init__(self) -> None:
        self.seconds, self.clock, self.pictures = 0.0, 0.0, 0
        original = MriCoreEncoder.token_grids

        def timed(encoder: MriCoreEncoder, images: torch.Tensor) -> dict[str, torch.Tensor]:
            start, began = time.thread_time(), time.perf_counter()
            found = original(encoder, images)
            self.seconds += time.thread_time() - start
            self.clock += time.perf_counter() - began
            self.pictures += len(images)
            return found

        MriCoreEncoder.token_grids = timed  # type: ignore[method-assign]

    def measure(self, *words: object) -> dict[str, Any]:
        """What a command takes, and the network within it."""
        self.seconds, self.clock, self.pictures = 0.0, 0.0, 0
        start, began = time.process_time(), time.perf_counter()
        code = command([str(word) for word in words])
        if code != 0:
            raise SystemExit(code)
        return {
            "pictures": self.pictures,
            "processor": beside(time.process_time() - start, self.seconds),
            "clock": beside(time.perf_counter() - began, self.clock),
        }


def beside(whole: float, network: float) -> dict[str, float]:
    """Seconds of a command, and of the network within."""
    rest = round((whole - network) / network, 3)
    return {"seconds": round(whole, 1), "in_the_network": round(network, 1), "rest_over_network": rest}


def bodies(folder: Path, people: range, slices: int) -> Path:
    """A volume of each person."""
    for number in people:
        voxels = phantoms.anatomy(number, (slices + 4, SIDE, SIDE))[2:-2]
        phantoms.write(folder / f"sub-{number:03d}.nii.gz", voxels, (4.0, 1.2, 1.2))
    return folder


def measured(folder: Path, options: argparse.Namespace, network: Network) -> dict[str, Any]:
    training = bodies(folder / "training", range(options.volumes), options.slices)
    encoder = ["--encoder", "mri-core", "--weights", folder / "vit_b.pth", "--precision", options.precision]
    out = folder / "out"
    if options.evaluate:
        words = ["--augmentations", "identity,rotation_5", "--volumes", 3, "--out", out]
        return {"evaluate": network.measure("evaluate", training, *encoder, *words)}
    result: dict[str, Any] = {"build": network.measure("build", training, *encoder, "--out", folder / "reference")}
    queries = bodies(folder / "queries", range(1000, 1000 + options.queries), options.slices)
    result["score"] = network.measure("score", folder / "reference", queries, "--out", out)
    reference = Reference.open(folder / "reference")
    scores = reference.score([queries], weights=folder / "vit_b.pth")  # all features are in the cache
    result["slices"] = {"training": len(reference.slice_number), "queries": len(scores.slices["slice"])}
    result["mi"] = [round(float(mi), 4) for mi in scores.slices["mi"]]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--slices", type=int, default=3, help="slices of a volume")
    parser.add_argument("--queries", type=int, default=4, help="volumes that are scored")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--cores", type=int, default=1, help="threads that do the rest (default 1)")
    parser.add_argument("--evaluate", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_cores(options.cores)
    network = Network()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MEMORIZATION_INDEX_CACHE"] = str(folder / "cache")
        torch.save({"teacher": random_weights(768, 12, 3072, 16, 14)}, folder / "vit_b.pth")
        result = measured(folder, options, network)
    print(json.dumps({"processor": processor(), **vars(options), "torch": torch.__version__, **result}, indent=2))


if __name__ == "__main__":
    main()
