"""``evaluate`` at MRI-CORE's full size: ``python Testing/benchmarks/full_size.py [--subjects N] [--threads K]``.

A ViT-B with random weights goes through the command that whoever has the weights will type: build a reference of
pictures, plant copies, score them and controls. Prints JSON: slices, pictures that went through the network
(each once), seconds of all and of the network alone. Random weights say nothing of detection.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing/library")]

from memorization_index.cli import main as command  # noqa: E402
from memorization_index.encoders.mri_core import MriCoreEncoder  # noqa: E402
from vit_weights import random_weights  # noqa: E402


def pictures(folder: Path, subjects: int) -> None:
    """One blurred-noise picture of 256 × 256 pixels for each subject: what is in it does not matter here."""
    folder.mkdir()
    for number in range(subjects):
        rng = np.random.default_rng(number)
        image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=(256, 256))), 4.0)
        sitk.WriteImage(sitk.Cast(sitk.RescaleIntensity(image), sitk.sitkUInt8), str(folder / f"sub-{number:02d}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spent = {"pictures": 0, "seconds in the network": 0.0}
    original = MriCoreEncoder.token_grids

    def timed(self: MriCoreEncoder, images: torch.Tensor) -> dict[str, torch.Tensor]:
        start = time.perf_counter()
        found = original(self, images)
        spent["seconds in the network"] += time.perf_counter() - start
        spent["pictures"] += len(images)
        return found

    MriCoreEncoder.token_grids = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MEMORIZATION_INDEX_CACHE"] = str(folder / "cache")
        pictures(folder / "scans", options.subjects)
        torch.save({"teacher": random_weights(768, 12, 3072, 16, 14)}, folder / "vit_b.pth")
        start = time.perf_counter()
        code = command(
            ["evaluate", str(folder / "scans"), "--encoder", "mri-core", "--weights", str(folder / "vit_b.pth"),
             "--augmentations", "identity,rotation_5", "--volumes", "3", "--out", str(folder / "evaluation")]
        )  # fmt: skip
        whole = time.perf_counter() - start
        figures = json.loads((folder / "evaluation" / "evaluate.json").read_text())["all"] if code == 0 else {}
    result = {"exit code": code, "threads": options.threads, "torch": torch.__version__, "seconds": round(whole, 1)}
    result |= {"training subjects": options.subjects * 2 // 3, **{k: round(v, 1) for k, v in spent.items()}}
    result |= {"queries": figures.get("copies", 0) + figures.get("controls", 0)}
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
