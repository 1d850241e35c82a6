"""What is fuzzed: for each reader, small valid examples, how they are damaged, and how they are opened."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import mutation
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "MemorizationIndex"), str(ROOT / "Testing" / "library")]

import phantoms  # noqa: E402

SHAPE = (3, 20, 16)


@dataclass(frozen=True)
class Target:
    """One reader.

    ``make(folder, variant)`` writes an example; ``open`` reads it, and is told the case's number. ``damage`` names the
    files that are damaged (glob patterns); ``seal`` makes a bundle's checksums right again.
    """

    make: Callable[[Path, int], None]
    variants: int
    open: Callable[[Path, int], object]
    damage: tuple[str, ...] = ("*",)
    tokens: tuple[bytes, ...] = ()
    seal: Callable[[Path], None] | None = None
    entry: str | None = None  # the file that is opened; None: the folder
    names_files: bool = False  # of the user's own, which may lie anywhere
    layers: dict[str, mutation.Layer] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------------------------
# Opening: as far as a run would go with it


def open_volume(path: Path, number: int) -> None:
    from memorization_index.slices import square_images, to_slices
    from memorization_index.volumes import looks_flat, read_volume

    looks_flat([path])
    volume = read_volume(path)
    if number % 8:  # slicing costs as much as reading, and sees far fewer kinds of damage
        return
    plane = volume.acquisition_plane or "axial"
    square = square_images(to_slices(volume, plane if plane != "image" else "axial"), 16)
    assert np.isfinite(square).all()
    assert (square >= 0).all()
    assert (square <= 1 + 1e-6).all()


def open_dicom(folder: Path, number: int) -> None:
    from memorization_index.cohort import find_volumes
    from memorization_index.errors import MemorizationIndexError
    from memorization_index.volumes import read_volume

    cohort = find_volumes([folder])
    for entry in cohort.entries[:2]:
        read_volume(entry.files if len(entry.files) > 1 else entry.path)
    if cohort.skipped:
        raise MemorizationIndexError(cohort.skipped[0].reason)


def open_table(path: Path, number: int) -> None:
    from memorization_index.cohort import find_volumes

    find_volumes([path])
    if path.suffix != ".txt":
        find_volumes([path], path)


def open_checkpoint(path: Path, number: int) -> None:
    from memorization_index.encoders.checkpoints import read_checkpoint

    read_checkpoint(path)


def open_bundle(folder: Path, number: int) -> None:
    from memorization_index.reference import Reference

    reference = Reference.open(folder)
    assert len(reference.slice_position) == len(reference.slice_number)
    assert len(reference.subject_labels) == len(reference.volumes)
    vectors = np.zeros((1, 1, next(iter(reference.retriever.whitenings.values())).matrix.shape[1]), np.float32)
    reference.retriever.banks[next(iter(reference.features))].search(vectors, 3)
    similarity = np.array([0.5])
    if reference.null.is_calibrated:
        reference.null.slice_p(reference.mi(similarity, np.array([0])))
        reference.null.volume_numbers(0.5, 3)


def open_result(folder: Path, number: int) -> None:
    from memorization_index.cli import _parser
    from memorization_index.consistency import contradictions
    from memorization_index.progress import Progress
    from memorization_index.scores import Scores

    contradictions(Scores.read(folder), folder)
    options = _parser().parse_args(["report", str(folder)])
    options.run(options, Progress())
    report = folder / "report.html"
    assert "<script>alert" not in report.read_text(encoding="utf-8")
    report.unlink()


# --------------------------------------------------------------------------------------------------------------------
# Examples


def _voxels(variant: int) -> np.ndarray:
    kind = (np.int16, np.float32, np.uint8, np.float64)[variant % 4]
    return (phantoms.anatomy(variant, SHAPE) // (8 if kind is np.uint8 else 1)).astype(kind)


def volume(name: str) -> Callable[[Path, int], None]:
    def make(folder: Path, variant: int) -> None:
        import SimpleITK as sitk

        image = phantoms.itk_image(_voxels(variant))
        sitk.WriteImage(image, str(folder / name), variant >= 4 and not name.endswith(".nii"))

    return make


def picture(name: str) -> Callable[[Path, int], None]:
    def make(folder: Path, variant: int) -> None:
        from PIL import Image

        pixels = (phantoms.anatomy(variant, SHAPE)[1] // 8).astype(np.uint8)
        image = Image.fromarray(pixels)
        if variant % 3 == 1:
            image = image.convert("RGB")
        elif variant % 3 == 2:
            image = image.convert("L") if name.endswith("jpg") else Image.fromarray(pixels.astype(np.uint16) * 200)
        options = {}
        if name.endswith("tif") and variant >= 3:
            options = {"compression": ("tiff_lzw", "tiff_adobe_deflate", "packbits")[variant - 3]}
        image.save(folder / name, **options)

    return make


def array(folder: Path, variant: int) -> None:
    np.save(folder / "case.npy", _voxels(variant) if variant < 4 else _voxels(0)[1])


def dicom(folder: Path, variant: int) -> None:
    files = phantoms.write_dicom(folder, phantoms.anatomy(variant, SHAPE)[: 3 if variant else 1])
    if variant == 2:
        import pydicom
        from pydicom.uid import RLELossless

        for path in files:
            data = pydicom.dcmread(path)
            data.compress(RLELossless)
            data.save_as(path)
    if variant in (3, 4):
        import SimpleITK as sitk

        for path in files:
            writer = sitk.ImageFileWriter()
            writer.SetFileName(str(path))
            writer.UseCompressionOn()
            writer.SetCompressor("JPEG" if variant == 4 else "JPEG2000")
            writer.Execute(sitk.ReadImage(str(path)))


def table(folder: Path, variant: int) -> None:
    from PIL import Image

    for i in range(2):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / f"{i}.png")
    np.save(folder / "2.npy", np.zeros((2, 2, 2)))
    separator = ",;\t"[variant % 3]
    rows = [["path", "subject", "volume"], ["0.png", "a", "v"], ["1.png", "a", "v"], ["2.npy", "b", ""]]
    (folder / "case.csv").write_text("\n".join(separator.join(row) for row in rows) + "\n")


def listing(folder: Path, variant: int) -> None:
    table(folder, variant)
    (folder / "case.txt").write_text("0.png\n1.png\n\n2.npy\n")


def checkpoint(name: str) -> Callable[[Path, int], None]:
    def make(folder: Path, variant: int) -> None:
        import torch
        from memorization_index.encoders.checkpoints import Shape, expected_shapes
        from safetensors.torch import save_file

        torch.manual_seed(variant)
        shape = Shape(8, 1, 16, 2)
        tensors = {n: torch.randn(s) for n, s in expected_shapes(shape, variant % 2 == 1).items()}
        tensors["pos_embed"] = torch.randn(1, 2, 2, 8)
        if name.endswith(".safetensors"):
            save_file(tensors, folder / name)
        else:
            torch.save(
                {"model": tensors} if variant else tensors, folder / name, _use_new_zipfile_serialization=variant < 2
            )

    return make


def bundle(folder: Path, variant: int) -> None:
    from memorization_index.reference import Reference

    training = folder / "training"
    for subject in range(6):
        phantoms.write(training / f"sub-{subject}.nii", phantoms.anatomy(subject, SHAPE))
    Reference.build(training, folder / "reference")
    shutil.rmtree(training)
    for path in (folder / "reference").iterdir():
        path.rename(folder / path.name)
    (folder / "reference").rmdir()


def sealed(folder: Path) -> None:
    """Make the checksums right again, as a hostile author would."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        listed = manifest.get("files")
        for name in listed if isinstance(listed, dict) else ():
            if "/" not in name and (folder / name).is_file():
                listed[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        text = json.dumps(manifest).encode()
    except (ValueError, AttributeError, RecursionError, OSError):
        text = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(text)
    digest = hashlib.sha256(text).hexdigest()
    (folder / "manifest.json.sha256").write_text(f"{digest}  manifest.json\n")


def result(folder: Path, variant: int) -> None:
    from memorization_index.reference import Reference

    training = folder / "training"
    for subject in range(6):
        phantoms.write(training / f"sub-{subject}.nii", phantoms.anatomy(subject, SHAPE))
    scores = Reference.build(training).score([training / "sub-0.nii", training / "sub-1.nii"])
    shutil.rmtree(training)
    scores.write(folder)
    (folder / "report.html").unlink()
    decisions = "volume,slice,decision,note,time,reader\nsub-0.nii,,copy,looks alike,2026-11-24T09:00:00Z,A\n"
    (folder / "decisions.csv").write_text(decisions)


_NRRD = (
    b"data file: /etc/passwd", b"data file: ../x.raw", b"data file: LIST", b"data file: %d.raw 0 100000000 1",
    b"encoding: gzip", b"encoding: hex", b"encoding: bzip2", b"encoding: text", b"encoding: raw", b"type: block",
    b"block size: 4000000000", b"byte skip: -1", b"byte skip: 99999999", b"line skip: 1000000000", b"dimension: 17",
    b"sizes: 1 1 1", b"kinds: vector domain domain", b"space: left-posterior-superior", b"space dimension: 99",
    b"space directions: (1,0,0) none (0,0,1)", b"spacings: nan 1 1", b"thicknesses: 0 0 0", b"content: x",
    b"labels: \"a\" \"b\" \"c\"", b"units: \"mm\" \"mm\"", b"centerings: cell cell cell", b"key:=value",
    b"measurement frame: (1,0,0) (0,1,0) (0,0,1)", b"axis mins: 0 0 0", b"sample units: \"", b"NRRD0005", b"# comment",
)  # fmt: skip
_META = (
    b"ElementDataFile = LIST", b"ElementDataFile = /etc/passwd", b"ElementDataFile = ../x.raw", b"NDims = 100",
    b"ElementDataFile = %d.raw 0 100000000 1", b"DimSize = 99999 99999 99999", b"CompressedData = True",
    b"HeaderSize = -1",
    b"CompressedDataSize = 99999999999", b"ElementType = MET_STRING", b"ElementType = MET_DOUBLE_ARRAY", b"NDims = 0",
    b"ElementNumberOfChannels = 1000000", b"ElementSpacing = 0 0 0", b"TransformMatrix = 0 0 0 0 0 0 0 0 0",
    b"BinaryData = False", b"BinaryDataByteOrderMSB = True", b"HeaderSize = 99999999", b"ObjectType = Tube",
    b"AnatomicalOrientation = XYZ", b"ElementSizeValid = 1", b"Modality = MET_MOD_MR", b"Name = " + b"n" * 9000,
    b"CompressionTable = a b c", b"Comment = \xff",
)  # fmt: skip
_TIFF = tuple(
    bytes([tag % 256, tag // 256]) for tag in (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 322, 325, 339)
)
_PTH = (b"cposix\nsystem\n(S'x'\ntR.", b"c__builtin__\neval\n", b"\x80\x02", b"ctorch._utils\n_rebuild_tensor_v2\n")

TARGETS: dict[str, Target] = {
    "nifti": Target(volume("case.nii"), 4, open_volume, entry="case.nii"),
    "nifti-gz": Target(volume("case.nii.gz"), 4, open_volume, entry="case.nii.gz", layers={"*.gz": mutation.GZIP}),
    "nrrd": Target(volume("case.nrrd"), 8, open_volume, tokens=_NRRD, entry="case.nrrd"),
    "nrrd-detached": Target(volume("case.nhdr"), 4, open_volume, tokens=_NRRD, entry="case.nhdr"),
    "metaimage": Target(volume("case.mha"), 8, open_volume, tokens=_META, entry="case.mha"),
    "metaimage-detached": Target(volume("case.mhd"), 4, open_volume, tokens=_META, entry="case.mhd"),
    "dicom": Target(dicom, 5, open_dicom),
    "png": Target(picture("case.png"), 3, open_volume, entry="case.png", layers={"*.png": mutation.PNG}),
    "jpeg": Target(picture("case.jpg"), 3, open_volume, entry="case.jpg"),
    "tiff": Target(picture("case.tif"), 6, open_volume, tokens=_TIFF, entry="case.tif"),
    "npy": Target(array, 5, open_volume, entry="case.npy"),
    "table": Target(table, 3, open_table, ("case.csv",), entry="case.csv", names_files=True),
    "list": Target(listing, 1, open_table, ("case.txt",), entry="case.txt", names_files=True),
    "checkpoint": Target(checkpoint("case.pth"), 3, open_checkpoint, tokens=_PTH, entry="case.pth"),
    "safetensors": Target(checkpoint("case.safetensors"), 2, open_checkpoint, entry="case.safetensors"),
    "bundle": Target(bundle, 1, open_bundle, seal=sealed),
    "result": Target(result, 1, open_result),
}


class Case:
    """A folder with one example, damaged by number and mended again."""

    def __init__(self, name: str, folder: Path, examples: Path) -> None:
        self.target, self.name, self.folder = TARGETS[name], name, folder
        self._examples = [
            {p.relative_to(base).as_posix(): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}
            for base in (examples / name / str(v) for v in range(self.target.variants))
        ]
        self._present: dict[str, bytes] = {}

    def damage(self, seed: int, number: int) -> Path:
        """Write case ``number`` and return what is to be opened."""
        random = Random(f"{seed}/{self.name}/{number}")
        files = dict(random.choice(self._examples))
        names = [n for n in files if any(Path(n).match(p) for p in self.target.damage)]
        chosen = random.choice(names)
        files[chosen] = self._damaged(chosen, files[chosen], random)
        self._write(files)
        if self.target.seal is not None and random.random() < 0.9:
            self.target.seal(self.folder)
            self._present.clear()
        return self.folder if self.target.entry is None else self.folder / self.target.entry

    def _damaged(self, name: str, data: bytes, random: Random) -> bytes:
        tokens = self.target.tokens
        if data.startswith(b"PK") and random.random() < 0.7:
            return mutation.zipped(data, random, tokens)
        layer = next((layer for pattern, layer in self.target.layers.items() if Path(name).match(pattern)), None)
        if layer is not None and random.random() < 0.75:
            return layer.pack(mutation.damaged(layer.unpack(data), random, tokens))
        return mutation.damaged(data, random, tokens)

    def _write(self, files: dict[str, bytes]) -> None:
        known = self._present
        for path in list(self.folder.rglob("*")):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in files:
                path.unlink()
        for name, data in files.items():
            if known.get(name) is not data:
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_bytes(data)
        self._present = files
