"""Nothing that leaves names a person: identifiers are planted everywhere and searched for in all that is given away."""

import base64
import csv
import gzip
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
from leaks import leaks
from memorization_index import MemorizationIndexError, Reference
from memorization_index.cli import main
from memorization_index.linking import linked_files
from memorization_index.pseudonyms import Key
from memorization_index.scores import Scores
from memorization_index.volumes import read_volume
from PIL import Image, PngImagePlugin

WARD, PATIENT, RECORD = "ward-Elm-Street", "DOEJANE77", "MRN-4711-0815"
DICOM_ID, DICOM_NAME, NOTE = "PID998877", "Roe^Richard", "born 1961-04-03, Jane Doe"
IDENTIFIERS = (WARD, PATIENT, RECORD, DICOM_ID, DICOM_NAME, "Richard", NOTE, "Jane Doe")


def write_noted(path: Path, voxels: np.ndarray) -> Path:
    """A NIfTI file that has a note in its description and its name in the gzip header."""
    plain = phantoms.write(path.with_name("plain.nii"), voxels)
    content = bytearray(plain.read_bytes())
    plain.unlink()
    content[148 : 148 + len(NOTE)] = NOTE.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile(f"{RECORD}.nii", "wb", fileobj=raw, mtime=0) as stream:
        stream.write(bytes(content))
    assert NOTE.encode() in gzip.decompress(path.read_bytes())
    return path


def write_series(folder: Path, voxels: np.ndarray) -> None:
    import pydicom

    for path in phantoms.write_dicom(folder, voxels, patient=DICOM_ID):
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientComments = DICOM_NAME, NOTE
        data.save_as(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A training set and queries full of identifiers, and a pseudonymized reference with blurred thumbnails."""
    home = tmp_path_factory.mktemp("home") / WARD
    training, queries = home / "training", home / "queries"
    for subject in range(4):
        folder = training / f"sub-{PATIENT}{subject}"
        write_noted(folder / f"{RECORD}-{subject}.nii.gz", phantoms.anatomy(subject)[3:9])
    # The same scan under two names is listed as a duplicate; a broken file and an empty one are skipped.
    write_noted(training / f"sub-{PATIENT}x" / f"{RECORD}-x.nii.gz", phantoms.anatomy(0)[3:9])
    write_series(training / f"{DICOM_ID}-series", phantoms.anatomy(5)[3:9])
    (training / f"{RECORD}-broken.nii.gz").write_text(NOTE)
    write_noted(queries / f"{PATIENT}-copy.nii.gz", phantoms.anatomy(2)[3:9])
    write_series(queries / f"{DICOM_NAME}-series", phantoms.anatomy(50)[3:9])
    (queries / f"{RECORD}-broken.nii.gz").write_text(NOTE)
    reference = home / "reference"
    arguments = ["--pseudonymize", "--thumbnails", "blurred", "--controls", queries / f"{DICOM_NAME}-series"]
    assert main(["build", str(training), "--out", str(reference), *map(str, arguments)]) == 0
    return SimpleNamespace(
        folder=home, training=training, queries=queries, reference=reference, key=home / "reference.key"
    )


@pytest.fixture(scope="module")
def away(home: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference where it was given to, without key or training set."""
    return Path(shutil.copytree(home.reference, tmp_path_factory.mktemp("away") / "reference"))


def forbidden(home: SimpleNamespace) -> list[str]:
    """Identifiers, and what recognizes a training scan without a key: hashes of its voxels and of its file."""
    files = sorted(home.training.rglob("*.nii.gz"))[:-1]
    prints = [read_volume(path).fingerprint for path in files if "broken" not in path.name]
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    names = [path.relative_to(home.training).as_posix() for path in files]
    return [*IDENTIFIERS, *prints, *sums, *names, home.key.read_text().strip()]


# --------------------------------------------------------------------------------------------------------------------
# The search finds what it should


def png(text: str) -> bytes:
    info, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Comment", text, zip=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, "PNG", pnginfo=info)
    return stream.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def npz(text: str) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, names=np.frombuffer(text.encode(), np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        PATIENT.encode(),
        PATIENT.lower().encode(),
        PATIENT.encode("utf-16"),
        base64.b64encode(PATIENT.encode()),
        hashlib.md5(PATIENT.encode()).hexdigest().encode(),
        hashlib.sha1(PATIENT.encode()).digest(),
        base64.b64encode(hashlib.sha256(PATIENT.encode()).digest()),
        gzip.compress(PATIENT.encode()),
        png(PATIENT),
        b'<img src="data:image/png;base64,' + base64.b64encode(png(PATIENT)) + b'">',
        zipped("scene.mrml", zipped("inner.txt", PATIENT.encode())),
        zipped(f"{PATIENT}.txt", b""),
        zipped("scene.mrml", b'<Text text="' + base64.b64encode(zipped("run.json", PATIENT.encode())) + b'"/>'),
        npz(PATIENT),
        b"NRRD0004\nencoding: gzip\n\n" + gzip.compress(PATIENT.encode()),
        b"%PDF-1.7\n1 0 obj\nstream\n" + zlib.compress(PATIENT.encode()) + b"\nendstream",
    ],
)
def test_search_finds_what_is_hidden(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert leaks([tmp_path], [PATIENT])
    assert not leaks([tmp_path], ["DOEJANE78"])


def test_search_looks_at_names(tmp_path: Path) -> None:
    (tmp_path / PATIENT).mkdir()
    assert leaks([tmp_path], [PATIENT])


def test_search_finds_identifiers_where_nothing_hides_them(home: SimpleNamespace, tmp_path: Path) -> None:
    """The same training set without --pseudonymize: what the next tests look for is there to be found."""
    assert main(["build", str(home.training), "--out", str(tmp_path / "open"), "--power", "none"]) == 0
    found = leaks([tmp_path / "open"], forbidden(home))
    for text in (WARD, PATIENT, RECORD, DICOM_ID):
        assert any(text in line for line in found)
    prints = {row["fingerprint"] for row in csv.DictReader((tmp_path / "open" / "volumes.csv").open())}
    assert prints & set(forbidden(home))


# --------------------------------------------------------------------------------------------------------------------
# What leaves


def test_bundle_names_nobody(home: SimpleNamespace, away: Path) -> None:
    assert leaks([away], forbidden(home)) == []
    manifest = json.loads((away / "manifest.json").read_text())
    assert manifest["counts"]["skipped"] == 1
    assert len(manifest["training_duplicates"]) == 1
    assert manifest["counts"]["subjects"] == 6


def test_result_and_report_name_nobody(home: SimpleNamespace, away: Path, tmp_path: Path) -> None:
    """Scored at home, with the training set and the key at hand, and given away."""
    arguments = ["--training-root", home.training, "--key", home.key, "--pseudonymize"]
    out = tmp_path / "result"
    assert main([str(a) for a in ("score", away, home.queries, "--out", out, *arguments)]) == 0
    assert main(["report", str(out)]) == 0
    scores = Scores.read(out)
    assert sorted(scores.volumes["verdict"])[0] == "copy"
    assert len(scores.pictures.rows) >= 1
    assert scores.run["counts"]["skipped"] == 1
    assert leaks([out], forbidden(home)) == []


def test_pdf_names_nobody(home: SimpleNamespace, away: Path, tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", reason="needs the extra 'pdf'", exc_type=(ImportError, OSError))
    arguments = ["--training-root", home.training, "--key", home.key, "--pseudonymize"]
    assert main([str(a) for a in ("score", away, home.queries, "--out", tmp_path / "r", *arguments)]) == 0
    assert main(["report", str(tmp_path / "r"), "--pdf"]) == 0
    assert leaks([tmp_path / "r" / "report.pdf"], forbidden(home)) == []


def test_structured_reports_name_nobody(home: SimpleNamespace, away: Path, tmp_path: Path) -> None:
    """In made-up studies nothing is named; in the study of a DICOM query its own header is, and nothing else."""
    pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
    arguments = ["--training-root", home.training, "--key", home.key, "--pseudonymize"]
    assert main([str(a) for a in ("score", away, home.queries, "--out", tmp_path / "r", *arguments)]) == 0
    assert main(["report", str(tmp_path / "r"), "--dicom-sr", str(tmp_path / "sr")]) == 0
    assert leaks([tmp_path / "sr"], forbidden(home)) == []
    asked = ["--dicom-sr", tmp_path / "own", "--queries", home.queries, "--key", home.key]
    assert main(["report", *map(str, (tmp_path / "r", *asked))]) == 0
    found = leaks([tmp_path / "own"], forbidden(home))
    assert found
    assert all(DICOM_ID in line or "Richard" in line for line in found)


def test_open_reference_scored_with_pseudonyms_names_nobody(home: SimpleNamespace, tmp_path: Path) -> None:
    reference = Reference.build(home.training, power="none")
    scores = reference.score(home.queries)
    key = Key.load(home.key)
    scores.write(tmp_path / "result", key=key)
    assert leaks([tmp_path / "result"], [*IDENTIFIERS, home.key.read_text().strip()]) == []
    # The same names as in the pseudonymized reference: results of both can be compared.
    known = {row["volume"] for row in csv.DictReader((home.reference / "volumes.csv").open())}
    assert set(Scores.read(tmp_path / "result").volumes["match_volume"]) <= known


def test_folders_of_queries_stay_home_by_default(home: SimpleNamespace, away: Path, tmp_path: Path) -> None:
    queries = home.folder / RECORD / "queries"
    phantoms.write(queries / "generated-1.nii.gz", phantoms.anatomy(2)[3:9])
    (queries / "generated-2.nii.gz").write_text("no image")
    arguments = ["--training-root", home.training, "--key", home.key, "--out", tmp_path / "result"]
    assert main([str(a) for a in ("score", away, queries, *arguments)]) == 0
    assert leaks([tmp_path / "result"], forbidden(home)) == []
    assert list(Scores.read(tmp_path / "result").volumes["volume"]) == ["generated-1.nii.gz"]


def test_key_and_lists_stay_home(home: SimpleNamespace) -> None:
    beside = {path.name for path in home.folder.iterdir() if path.is_file()}
    assert {"reference.key", "reference.key.names.csv"} <= beside
    assert not [path for path in home.reference.iterdir() if "key" in path.name]
    if os.name == "posix":
        for path in home.folder.glob("reference.key*"):
            assert path.stat().st_mode & 0o777 == 0o600
    with (home.folder / "reference.key.names.csv").open(encoding="utf-8", newline="") as stream:
        names = {row["pseudonym"]: row["name"] for row in csv.DictReader(stream)}
    with (home.reference / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {names[row["subject"]] for row in rows} == {
        *(f"sub-{PATIENT}{x}" for x in (0, 1, 2, 3, "x")), DICOM_ID
    }  # fmt: skip
    assert all((home.training / names[row["volume"]]).exists() for row in rows)


def test_encoder_is_not_named_by_its_place(home: SimpleNamespace, tmp_path: Path, capsys, monkeypatch) -> None:
    """Folders of Hugging Face models lie where their owner lives; who scores says where theirs is."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'torch'")
    folder = home.folder / RECORD / "model"
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.ViTModel(transformers.ViTConfig(**size, image_size=32, patch_size=16)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    training = tmp_path / "training"
    for subject in range(2):
        phantoms.write(training / f"{subject}.nii.gz", phantoms.anatomy(subject)[4:6])
    out = tmp_path / "reference"
    arguments = ["build", training, "--out", out, "--encoder", f"hf:{folder}", "--pseudonymize", "--device", "cpu"]
    assert main([str(a) for a in arguments]) == 0
    assert leaks([out], IDENTIFIERS) == []
    manifest = json.loads((out / "manifest.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    expected = hashlib.sha256(f"{hashlib.sha256(weights).hexdigest()}  model.safetensors\n".encode()).hexdigest()
    assert manifest["encoder"]["weights_sha256"] == expected

    score = ["score", out, training, "--out", tmp_path / "result", "--training-root", training]
    score += ["--key", tmp_path / "reference.key", "--device", "cpu"]
    monkeypatch.setenv("MEMORIZATION_INDEX_CACHE", str(tmp_path / "of-somebody-else"))  # who never saw the folder
    assert main([str(a) for a in score]) == 2
    assert "--weights" in capsys.readouterr().err
    assert main([str(a) for a in (*score, "--weights", folder)]) == 0
    assert set(Scores.read(tmp_path / "result").slices["match_class"]) == {"exact"}
    assert leaks([tmp_path / "result"], IDENTIFIERS) == []


# --------------------------------------------------------------------------------------------------------------------
# The owner finds them again


def test_owner_links_moved_and_renamed_files(
    home: SimpleNamespace, away: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other names, other folders, another format: the voxels are the same."""
    moved = tmp_path / "moved"
    for i, path in enumerate(sorted(home.training.rglob(f"{RECORD}-[0-3].nii.gz"))):
        phantoms.sitk.WriteImage(phantoms.sitk.ReadImage(str(path)), str(_new(moved / f"scan{i}" / "t1.nrrd")))
    files = linked_files(away, moved, home.key)
    assert len(files) == 4 + 1  # two names for one scan
    arguments = ["--training-root", moved, "--key", home.key, "--out", tmp_path / "result"]
    assert main([str(a) for a in ("score", away, home.queries / f"{PATIENT}-copy.nii.gz", *arguments)]) == 0
    scores = Scores.read(tmp_path / "result")
    assert set(scores.slices["match_class"]) == {"exact"}
    assert files[scores.volumes["match_volume"][0]] == (moved / "scan2" / "t1.nrrd",)
    capsys.readouterr()
    assert main(["locate", str(away), str(moved), "--key", str(home.key), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["files"]
    assert told == {name: [str(path) for path in paths] for name, paths in files.items()}


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_folder_is_read_once(home: SimpleNamespace, away: Path, tmp_path: Path) -> None:
    """A second time it is known from names, sizes and times which file is which; a changed file is read again."""
    moved = Path(shutil.copytree(home.training, tmp_path / "moved"))
    key = Path(shutil.copy2(home.key, tmp_path / "mine.key"))
    first = linked_files(away, moved, key)
    assert len(first) == 6
    state = {path: path.stat() for path in moved.rglob("*.nii.gz")}
    for path, before in state.items():
        path.write_bytes(bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert linked_files(away, moved, key) == first, "nothing was read"
    for path in state:
        os.utime(path)
    assert len(linked_files(away, moved, key)) == 1, "only the DICOM series is left"


def test_without_the_key_nothing_is_verified_and_that_is_said(
    home: SimpleNamespace, away: Path, tmp_path: Path, capsys
) -> None:
    query = home.queries / f"{PATIENT}-copy.nii.gz"
    assert (
        main(["score", str(away), str(query), "--out", str(tmp_path / "r"), "--training-root", str(home.training)]) == 0
    )
    assert "--training-root and the key with --key" in capsys.readouterr().err
    scores = Scores.read(tmp_path / "r")
    assert set(scores.slices["match_class"]) == {""}
    assert scores.slices["similarity"].min() > 0.99


# --------------------------------------------------------------------------------------------------------------------
# Keys


def test_other_keys_are_refused(home: SimpleNamespace, away: Path, tmp_path: Path, capsys) -> None:
    Key.load_or_make(tmp_path / "other.key")
    (tmp_path / "short.key").write_text("abcd")
    shutil.copy2(home.key, tmp_path / "public.key")
    for name in ("short.key", "public.key"):
        (tmp_path / name).chmod(0o600 if name == "short.key" else 0o644)
    cases = [("other.key", "is not the key"), ("short.key", "holds no key"), ("gone.key", "cannot be read")]
    if os.name == "posix":
        cases.append(("public.key", "chmod 600"))
    for name, said in cases:
        arguments = ["--training-root", home.training, "--key", tmp_path / name, "--out", tmp_path / "r"]
        assert main([str(a) for a in ("score", away, home.queries, *arguments)]) == 2
        message = capsys.readouterr().err
        assert said in message
        assert home.key.read_text().strip() not in message


def test_new_key_is_told_and_made_only_where_a_folder_is(tiny, tmp_path: Path, capsys) -> None:
    arguments = [str(a) for a in ("build", tiny.training, "--out", tmp_path / "new" / "ref", "--power", "none")]
    mistyped = tmp_path / "keyz" / "my.key"
    assert main([*arguments, "--key", str(mistyped)]) == 2
    assert f"--key {mistyped}: does not exist, nor does its folder" in capsys.readouterr().err
    assert not mistyped.parent.exists()
    key = tmp_path / "new" / "ref.key"
    for is_new in (True, False):
        assert main([*arguments, "--pseudonymize"]) == 0
        printed = capsys.readouterr()
        assert (f"New key written to {key}." in printed.err) == is_new
        assert f"Key: {key}; ref.key.names.csv beside it" in printed.out
    score = ["score", str(tmp_path / "new" / "ref"), str(tiny.training), "--out", str(tmp_path / "result")]
    assert main([*score, "--pseudonymize"]) == 0
    printed = capsys.readouterr()
    assert f"New key written to {tmp_path / 'result.key'}." in printed.err
    assert f"Key: {tmp_path / 'result.key'}; result.key.names.csv beside it" in printed.out


def test_key_inside_of_what_leaves_is_refused(tiny, tmp_path: Path, capsys) -> None:
    for command, source in (("build", [tiny.training]), ("score", [tiny.reference, tiny.training])):
        out = tmp_path / command
        arguments = [command, *source, "--out", out, "--pseudonymize", "--key", out / "my.key"]
        assert main([str(a) for a in arguments]) == 2
        assert "may be given away" in capsys.readouterr().err
        assert not (out / "my.key").exists()


def test_two_keys_give_different_names_and_the_same_key_the_same(tiny, tmp_path: Path) -> None:
    names = []
    for key in ("one", "one", "two"):
        out = tmp_path / f"{key}-{len(names)}"
        arguments = ["build", tiny.training, "--out", out, "--key", tmp_path / key, "--power", "none"]
        assert main([str(a) for a in arguments]) == 0
        with (out / "volumes.csv").open(encoding="utf-8", newline="") as stream:
            names.append([(row["volume"], row["subject"], row["fingerprint"]) for row in csv.DictReader(stream)])
    assert names[0] == names[1]
    assert not {x for row in names[0] for x in row} & {x for row in names[2] for x in row}


def test_named_reference_has_no_links(tiny, home: SimpleNamespace) -> None:
    with pytest.raises(MemorizationIndexError, match="is not pseudonymized"):
        linked_files(tiny.reference, tiny.training, home.key)


# --------------------------------------------------------------------------------------------------------------------
# Thumbnails


def test_thumbnails_only_where_asked(tiny, home: SimpleNamespace, tmp_path: Path) -> None:
    assert not (tiny.reference / "thumbnails.npy").exists()
    assert Reference.open(tiny.reference).thumbnails is None
    assert (
        main(["build", str(tiny.training), "--out", str(tmp_path / "full"), "--thumbnails", "full", "--power", "none"])
        == 0
    )
    full, blurred = Reference.open(tmp_path / "full"), Reference.open(home.reference)
    assert full.thumbnails.shape == (9, 64, 64)
    assert blurred.thumbnails.shape == (36, 64, 64)
    assert full.manifest["thumbnails"] == "full"
    # The first row is the first slice of the first volume, as a reader would see it.
    from memorization_index.slices import square_images, to_slices

    row = 4
    volume = full.volumes[full.slice_volume[row]]
    stack = to_slices(read_volume(Path(volume.files[0])), full.plane)
    place = list(stack.numbers).index(full.slice_number[row])
    np.testing.assert_allclose(full.thumbnails[row] / 255, square_images(stack, 64)[place], atol=0.003)


def test_blurred_thumbnails_have_no_fine_detail(home: SimpleNamespace, tmp_path: Path) -> None:
    sharp = Reference.build(home.training, tmp_path / "sharp", thumbnails="full", power="none").thumbnails.astype(float)
    blurred = Reference.open(home.reference).thumbnails.astype(float)
    fine = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64))) > 0.15
    energy = [float(np.square(np.abs(np.fft.fft2(images)[:, fine])).sum()) for images in (sharp, blurred)]
    assert energy[1] < 0.02 * energy[0]
