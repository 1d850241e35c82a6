"""What a result says of where it comes from: complete, by its published schema, and the same for the same inputs."""

import csv
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import phantoms
import pytest
from memorization_index import MemorizationIndexError, Reference
from memorization_index.cli import main
from memorization_index.gate import Gate
from memorization_index.scores import ALIGNMENT_COLUMNS, INPUT_COLUMNS, SLICE_COLUMNS, VOLUME_COLUMNS, Scores

PACKAGE = Path(sys.modules["memorization_index"].__file__).parent


def run_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def queries(training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, a new person, a DICOM series and a file that is no image."""
    folder = tmp_path_factory.mktemp("queries")
    shutil.copytree(training / "sub-02", folder / "copies")
    phantoms.write(folder / "new.nii.gz", phantoms.anatomy(50)[3:9])
    phantoms.write_dicom(folder / "series", phantoms.anatomy(51)[3:9])
    (folder / "broken.nii.gz").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def result(reference: Path, queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("provenance") / "result"
    assert main(["score", str(reference), str(queries), "--out", str(out)]) == 0
    return out


# --------------------------------------------------------------------------------------------------------------------
# run.json and its schema


def validator():
    jsonschema = pytest.importorskip("jsonschema", reason="needs the extra 'test'")
    schema = json.loads((PACKAGE / "run.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_describes_every_kind_of_run(result: Path, reference: Path, queries: Path, tiny, tmp_path: Path) -> None:
    with_controls = Reference.build(tiny.training, controls=queries / "new.nii.gz", power="none")
    with_controls.score(tiny.training).write(tmp_path / "in memory")
    assert main(["score", str(tiny.reference), str(queries), "--out", str(tmp_path / "few"), "--keep-paths"]) == 0
    check = validator()
    for folder in (result, tmp_path / "in memory", tmp_path / "few"):
        assert [e.message for e in check.iter_errors(run_of(folder))] == []
    assert run_of(tmp_path / "in memory")["controls"]["volumes"] == 1
    assert not run_of(tmp_path / "few")["calibration"]["calibrated"]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema",), 2),
        (("reference", "fingerprint"), "abc"),
        (("counts", "slices"), -1),
        (("calibration", "mean"), None),
        (("created",), "yesterday"),
        (("verdicts",), {"copy": 1}),
        (("inputs", "sha256"), "0" * 63),
    ],
)
def test_schema_refuses_what_is_wrong(result: Path, where: tuple[str, ...], value) -> None:
    run = run_of(result)
    place = run
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    assert list(validator().iter_errors(run))


def test_every_key_of_a_run_is_described(result: Path) -> None:
    schema = json.loads((PACKAGE / "run.schema.json").read_text(encoding="utf-8"))
    assert set(run_of(result)) <= set(schema["properties"])


def test_every_number_of_a_run_is_explained(result: Path) -> None:
    schema = json.loads((PACKAGE / "run.schema.json").read_text(encoding="utf-8"))
    run, described = run_of(result), schema["properties"]
    card = described["power"]["anyOf"][1]["properties"]["augmentations"]["items"]["properties"]
    compared = ("slices", "volumes", "limit", "shift", "spread", "ks", "ks_p", "p_calibrated")
    for found, known in (
        (run["calibration"], described["calibration"]["properties"]),
        (run["calibration"]["thresholds"], described["calibration"]["properties"]["thresholds"]["properties"]),
        (compared, described["generator"]["properties"]),
        (run["copied_fraction"], described["copied_fraction"]["properties"]),
        (run["power"]["augmentations"][0], card),
    ):
        for key in found:
            assert known[key].get("description"), key


def test_every_column_is_explained() -> None:
    said = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    said = said[said.index("### The columns") : said.index("## The report")]
    tables = re.split(r"\n\n(?=[|`])", said)[1:]
    columns = (SLICE_COLUMNS, VOLUME_COLUMNS, ALIGNMENT_COLUMNS, INPUT_COLUMNS)
    for table, names in zip(tables, columns, strict=True):
        assert [name for name in names if f"`{name}`" not in table] == []


def test_says_what_it_was_made_from(result: Path, reference: Path, queries: Path) -> None:
    run = run_of(result)
    assert run["reference"]["fingerprint"] == Reference.open(reference).fingerprint
    assert run["versions"]["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert run["encoder"]["weights_sha256"] is None
    assert run["parameters"] == Reference.open(reference).manifest["parameters"]
    assert run["parameters"]["views"] > 100
    with (result / "inputs.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = {path.name: path for path in queries.rglob("*") if path.is_file()}
    assert {row["file"] for row in rows} == set(files) - {"broken.nii.gz"}
    for row in rows:
        assert row["sha256"] == hashlib.sha256(files[row["file"]].read_bytes()).hexdigest()
    assert run["inputs"]["files"] == len(rows) == 2 + 6
    lines = "".join(f"{row['sha256']}\n" for row in rows)
    assert run["inputs"]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_weights_are_named_by_their_sha256(tmp_path: Path) -> None:
    from memorization_index.provenance import weights_sha256

    (tmp_path / "a.safetensors").write_bytes(b"one")
    assert weights_sha256(tmp_path / "a.safetensors") == hashlib.sha256(b"one").hexdigest()
    whole = weights_sha256(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert weights_sha256(tmp_path) == whole
    (tmp_path / "b.safetensors").write_bytes(b"two")
    assert weights_sha256(tmp_path) != whole
    assert weights_sha256(None) is None


# --------------------------------------------------------------------------------------------------------------------
# Places


def test_places_stay_home_unless_asked(result: Path, reference: Path, queries: Path, tmp_path: Path) -> None:
    places = [str(queries), str(reference.parent), str(tmp_path.parent)]
    for path in result.rglob("*"):
        if path.is_file() and path.suffix != ".nrrd":
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [place for place in places if place in text], path.name
    assert run_of(result)["skipped"][0]["path"] == "broken.nii.gz"
    assert run_of(result)["skipped"][0]["reason"].startswith("broken.nii.gz: ")
    names = Scores.read(result).volumes["volume"]
    assert sorted(names) == ["copies/anat/sub-02_T1w.nii.gz", "new.nii.gz", "series/001.dcm"]

    kept = tmp_path / "kept"
    assert main(["score", str(reference), str(queries / "new.nii.gz"), "--out", str(kept), "--keep-paths"]) == 0
    assert Scores.read(kept).volumes["path"][0] == str(queries / "new.nii.gz")
    assert run_of(kept)["reference"]["path"] == str(reference)


def test_sentences_lose_their_folders_and_nothing_else() -> None:
    from memorization_index.privacy import without_places

    for text, path, expected in [
        ("/data/jane doe/x.nii: is empty.", "/data/jane doe/x.nii", "x.nii: is empty."),
        ("/a/b.nii: see /c/d/e.raw; export it", "/a/b.nii", "b.nii: see e.raw; export it"),
        ("C:\\Users\\jane\\x.nii: is empty", "", "x.nii: is empty"),
        ("x.nii: is 3/4 or and/or a 2-D image (1 × 2 mm)", "x.nii", "x.nii: is 3/4 or and/or a 2-D image (1 × 2 mm)"),
    ]:
        assert without_places(text, path) == expected


# --------------------------------------------------------------------------------------------------------------------
# The same every time


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_same_inputs_give_the_same_bytes(training: Path, queries: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for run in ("one", "two"):
        assert main(["build", str(training), "--out", str(tmp_path / run / "reference")]) == 0
        arguments = ["score", tmp_path / run / "reference", queries, "--out", tmp_path / run / "result"]
        assert main([str(a) for a in arguments]) == 0
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert set(one) == set(two)
    assert [name for name in one if one[name] != two[name]] == []
    assert run_of(tmp_path / "one" / "result")["created"] == "2023-11-14T22:13:20+00:00"
    assert run_of(tmp_path / "one" / "result")["seconds"] is None


def test_only_dates_differ_without_it(result: Path, reference: Path, queries: Path, tmp_path: Path) -> None:
    assert main(["score", str(reference), str(queries), "--out", str(tmp_path)]) == 0
    one, two = contents(result), contents(tmp_path)
    assert {name for name in one if one[name] != two[name]} <= {"run.json", "report.html"}
    first, second = run_of(result), run_of(tmp_path)
    assert {key for key in first if first[key] != second[key]} <= {"created", "seconds"}


def test_an_epoch_that_is_no_time_is_refused(tiny, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 2
    assert "SOURCE_DATE_EPOCH=soon: is no time" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------------
# The gate


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("exact", {"copies/anat/sub-02_T1w.nii.gz"}),
        ("copy", {"copies/anat/sub-02_T1w.nii.gz"}),
        ("altered copy", {"copies/anat/sub-02_T1w.nii.gz"}),
        ("suspicious", {"copies/anat/sub-02_T1w.nii.gz"}),
    ],
)
def test_gate_on_classes(result: Path, condition: str, expected: set[str]) -> None:
    assert set(Gate.parse(condition).meets(Scores.read(result))) == expected


def test_gate_on_a_class_holds_for_stronger_ones(result: Path) -> None:
    scores = Scores.read(result)
    for match_class, met in [("exact", 4), ("copy", 3), ("altered copy", 2), ("same anatomy", 1), ("novel", 0)]:
        scores.slices["match_class"][:] = "novel"
        scores.slices["match_class"][-1] = match_class
        volume = scores.slices["volume"][-1]
        conditions = ("exact", "copy", "altered copy", "same anatomy")
        # "copy" is the verdict, which does not follow a table that is changed by hand.
        found = [Gate.parse(c).meets(scores) == [volume] for c in conditions if c != "copy"]
        assert sum(found) == met - (met >= 3)


@pytest.mark.parametrize("value", ["p", "q"])
def test_gate_on_numbers_includes_its_level(result: Path, value: str) -> None:
    scores = Scores.read(result)
    column = scores.volumes[f"{value}_value"]
    level = sorted(column)[1]
    assert len(Gate.parse(f"{value}:{level}").meets(scores)) == (column <= level).sum() >= 2
    column[:] = float("nan")
    assert Gate.parse(f"{value}:1").meets(scores) == []


def test_gate_ends_with_3(reference: Path, tiny, training: Path, queries: Path, tmp_path: Path, capsys) -> None:
    copy, new = training / "sub-02", queries / "new.nii.gz"
    for source, conditions, code in [
        (copy, ["p:0.15"], 3),
        (new, ["p:0.15"], 0),
        (copy, ["q:0.15"], 3),
        (copy, ["suspicious", "p:0.15"], 3),
        (new, ["exact", "altered copy"], 0),
    ]:
        arguments = [a for condition in conditions for a in ("--fail-on", condition)]
        assert main(["score", str(reference), str(source), "--out", str(tmp_path), *arguments]) == code
        printed = capsys.readouterr().out
        assert [f"--fail-on {c}: met by 1 volume (" in printed for c in conditions] == [code == 3] * len(conditions)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("p:0.01", "this reference can give no volume a p below 0.1429"),
        ("q:0.1", "can give no volume a p below"),
        ("novel", "is no condition"),
        ("p:", "is no condition"),
        ("p:0", "is no condition"),
        ("q:1.5", "is no condition"),
        ("p:nan", "is no condition"),
        ("mi:3", "is no condition"),
    ],
)
def test_gates_that_cannot_close_are_refused(reference: Path, tmp_path: Path, capsys, condition: str, said) -> None:
    assert main(["score", str(reference), "x", "--out", str(tmp_path / "out"), "--fail-on", condition]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "\n" not in message.strip()
    assert not (tmp_path / "out").exists()


def test_gate_on_p_needs_calibration(tiny) -> None:
    with pytest.raises(MemorizationIndexError, match="too few subjects for p and q"):
        Gate.parse("p:0.5").check(Reference.open(tiny.reference).manifest["calibration"])
