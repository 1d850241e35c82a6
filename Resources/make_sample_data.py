"""Makes ``Resources/SampleData``: what Slicer's Sample Data module offers for the tutorial. Nobody's scans.

``python3 Resources/make_sample_data.py`` computes seven heads as the demo does, keeps their middle slices, and writes
six as training scans, the third of them mirrored and noisy as a copy, and the seventh as a new head, with a picture of
the copy for the module's list. It prints the SHA-256 of each file, which ``MemorizationIndexLib/SampleScans.py`` holds.
(Another processor may round a voxel in a million differently; therefore the files are kept, not only the command.)
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "MemorizationIndex"))

from memorization_index.evaluation.cohorts import make_demo_cohort  # noqa: E402 (found through the line above)

SEED, TRAINING, COPIED = 20_26, 6, 2
SLICES = slice(5, 13)


def make(folder: Path) -> list[Path]:
    """Write the files into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        heads = [sitk.ReadImage(str(path))[:, :, SLICES] for path in make_demo_cohort(temporary, TRAINING + 1, SEED)]
    names = [f"Training{number + 1}" for number in range(TRAINING)]
    copy = sitk.Flip(heads[COPIED], (True, False, False))
    copy.CopyInformation(heads[COPIED])
    images = dict(zip(names, heads, strict=False)) | {"Synthetic1": noisy(copy), "Synthetic2": heads[TRAINING]}
    paths = []
    for name, image in images.items():
        paths.append(folder / f"{name}.nrrd")
        plain = sitk.GetImageFromArray(sitk.GetArrayFromImage(image))  # without what NIfTI put into the header
        plain.CopyInformation(image)
        sitk.WriteImage(plain, str(paths[-1]), useCompression=True)
    return paths


def noisy(image: sitk.Image) -> sitk.Image:
    """The image with noise of 1 % of its range."""
    voxels = sitk.GetArrayFromImage(image)
    noise = np.random.default_rng(SEED).normal(0, 0.01 * voxels.max(), voxels.shape)
    result = sitk.GetImageFromArray(np.clip(np.rint(voxels + noise), 0, None).astype(np.int16))
    result.CopyInformation(image)
    return result


def draw(image: sitk.Image, path: Path) -> None:
    """A picture of the middle slice, 256 pixels wide, front on top."""
    voxels = np.flipud(sitk.GetArrayFromImage(image)[image.GetSize()[2] // 2]).astype(float)
    gray = np.clip(voxels / np.percentile(voxels, 99.5) * 255, 0, 255).astype(np.uint8)
    square = np.pad(gray, ((0, 0), ((len(gray) - gray.shape[1]) // 2,) * 2))
    Image.fromarray(square).resize((256, 256), Image.Resampling.BICUBIC).save(path)


if __name__ == "__main__":
    for path in make(ROOT / "Resources" / "SampleData"):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name, path.stat().st_size)
        if path.stem == "Synthetic1":
            draw(sitk.ReadImage(str(path)), ROOT / "MemorizationIndex" / "Resources" / "Icons" / "SampleScans.png")
