"""The report as a reader gets it: whole, without scripts or network, and saying what the tables say."""

import base64
import csv
import io
import itertools
import json
import re
import shutil
import sys
import time
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
from memorization_index import MemorizationIndexError
from memorization_index.cli import main
from memorization_index.report import report, verdict_sentence
from memorization_index.report.decisions import of_volume, read_decisions
from memorization_index.report.matches import difference
from memorization_index.report.method import power
from memorization_index.report.summary import worklist
from memorization_index.scores import Scores
from PIL import Image

#: Elements of HTML that have no end tag.
_VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}
HOSTILE = '<script>alert(1)</script> & "x".nii.gz'


class Page(HTMLParser):
    """Elements with their attributes and text; insists that every element is closed in its place."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self._open = "", []
        self.feed(source)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def result(training: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A copy, a mirrored copy, a volume with a copied middle, two new people, and a broken file."""
    folder = tmp_path_factory.mktemp("report")
    queries = folder / "queries"
    shutil.copytree(training / "sub-02", queries / "whole")
    phantoms.write(queries / "mirrored.nii.gz", phantoms.anatomy(3)[3:9, :, ::-1])
    mixed = phantoms.anatomy(52)[3:9]
    mixed[2:4] = phantoms.anatomy(4)[5:7]
    phantoms.write(queries / HOSTILE.replace("/", "_"), mixed)
    for subject in (50, 51):
        phantoms.write(queries / f"new-{subject}.nii.gz", phantoms.anatomy(subject)[3:9])
    (queries / "broken.nii.gz").write_text("no image")
    assert main(["score", str(reference), str(queries), "--out", str(folder / "result")]) == 0
    out = folder / "result"
    source = (out / "report.html").read_text(encoding="utf-8")
    return SimpleNamespace(folder=out, scores=Scores.read(out), source=source)


@pytest.fixture(scope="module")
def page(result: SimpleNamespace) -> Page:
    return Page(result.source)


def sections(source: str) -> dict[str, str]:
    """The section of each flagged volume, by anchor."""
    return dict(re.findall(r'<section class="match" id="([^"]+)">(.*?)</section>', source, re.S))


def marks(svg: str) -> list[tuple[float, float]]:
    """Where the points of a chart lie."""
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    diamonds = [(x, float(y) + 4.5) for x, y in re.findall(r'<path d="M([\d.]+) ([-\d.]+)l4.5', svg)]
    return sorted((float(x), float(y)) for x, y in [*circles, *diamonds])


def test_is_self_contained_and_needs_no_script(result: SimpleNamespace, page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "data", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    style = re.search(r"<style>(.*?)</style>", result.source, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_can_be_read_by_keyboard_and_aloud(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"].removeprefix("#") for a in page.all("a")]
    assert set(targets) <= set(ids)
    assert page.elements[0][1]["lang"] == "en"
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    scrolling = [a for a in page.all("div") if "wide" in a.get("class", "")]
    assert scrolling
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_flagged_volume_has_pictures_and_charts(result: SimpleNamespace) -> None:
    volumes, found = result.scores.volumes, sections(result.source)
    flagged = np.flatnonzero(volumes["n_flagged"] > 0)
    assert len(flagged) >= 3
    assert set(found) == {f"image-{i}" for i in flagged}
    for i in flagged:
        own = found[f"image-{i}"]
        pictures = re.findall(r"data:image/png;base64,([^\"]+)", own)
        assert [Image.open(io.BytesIO(base64.b64decode(p))).mode for p in pictures] == ["L", "L", "L", "RGB"]
        score, *trajectory = re.findall(r"<svg.*?</svg>", own, re.S)
        rows = result.scores.slices["volume"] == volumes["volume"][i]
        assert len(marks(score)) == rows.sum() == 6
        named = result.scores.slices["match_volume"][rows] == volumes["match_volume"][i]
        assert len(trajectory) == (named.sum() >= 2)
        if trajectory:
            assert len(marks(trajectory[0])) == named.sum()


def test_most_slices_are_only_said_to_match_where_more_than_half_do(result: SimpleNamespace) -> None:
    row = list(result.scores.volumes["volume"]).index("mirrored.nii.gz")
    assert "most slices are closest to sub-03: " in sections(result.source)[f"image-{row}"]
    slices = {column: values.copy() for column, values in result.scores.slices.items()}
    slices["match_subject"][np.flatnonzero(slices["volume"] == "mirrored.nii.gz")[:3]] = "sub-00"
    said = sections(report(replace(result.scores, slices=slices)))[f"image-{row}"]
    assert "matched to sub-03, which 3 of 6 slices name: " in said
    assert "most slices" not in said


def test_score_chart_shows_mi_and_the_null_s_band(result: SimpleNamespace) -> None:
    volumes = result.scores.volumes
    row = list(volumes["volume"]).index("mirrored.nii.gz")
    score, trajectory = re.findall(r"<svg.*?</svg>", sections(result.source)[f"image-{row}"], re.S)
    top, bottom = 8, 170 - 34  # the ends of the axis
    mi = result.scores.slices["mi"][result.scores.slices["volume"] == "mirrored.nii.gz"]
    low, high = -2, np.ceil(mi.max())
    drawn = [low + (bottom - y) / (bottom - top) * (high - low) for _, y in marks(score)]
    np.testing.assert_allclose(drawn, mi, atol=0.001 * (high - low))
    y, height = map(float, re.search(r'y="([\d.]+)" width="\d+" height="([\d.]+)" fill="#dde7f0"', score).groups())
    edges = [low + (bottom - e) / (bottom - top) * (high - low) for e in (y + height, y)]
    np.testing.assert_allclose(edges, [-1.96, 1.96], atol=0.002 * (high - low))
    # A whole copy runs through its training volume in order: a straight line.
    x, y = np.array(marks(trajectory)).T
    np.testing.assert_allclose(np.diff(y) / np.diff(x), -(bottom - top) / (480 - 44 - 10), rtol=0.01)


def test_says_what_the_tables_say(result: SimpleNamespace, page: Page) -> None:
    said = " ".join(page.text.split())
    verdicts = result.scores.run["verdicts"]
    assert verdicts["copy"] == 3
    assert "3 of 5 examined images show evidence of copying the training set of 6 subjects." in said
    assert "broken.nii.gz" in said[said.index("Not examined") :]
    assert "a volume that is not flagged is not proven novel" in said
    assert result.scores.run["reference"]["fingerprint"] in said
    for title in ("Worklist", "The hypothesis tested", "Method", "Power", "Calibration on controls", "Limits"):
        assert title in said
    assert HOSTILE.replace("/", "_") in page.text
    method = result.source.split('id="method"')[1].split("</ol>")[0]
    assert method.count("<li>") == 10


def test_share_of_slices_is_shown_only_of_volumes(result: SimpleNamespace) -> None:
    assert "Slices naming it</th>" in worklist(result.scores, (), {})
    pictures = {**result.scores.volumes, "n_slices": np.ones_like(result.scores.volumes["n_slices"])}
    assert "Slices naming it</th>" not in worklist(replace(result.scores, volumes=pictures), (), {})


@pytest.mark.parametrize(("q", "explained"), [(0.503, True), (0.02, False)])
def test_q_that_cannot_single_out_a_copy_is_explained(result: SimpleNamespace, q: float, explained: bool) -> None:
    run = {**result.scores.run, "smallest": {**result.scores.run["smallest"], "slice_q_of_one_copy": q}}
    said = power(run)
    assert f"q = {q:.3f} at best" in said
    assert ("cannot tell a single copied slice from chance" in said) == explained


def test_what_rounding_left_of_zero_is_written_as_zero(result: SimpleNamespace, tmp_path: Path) -> None:
    means = np.full(len(result.scores.volumes["volume"]), -8.7e-16)
    replace(result.scores, volumes={**result.scores.volumes, "null_mean": means}).write(tmp_path)
    with (tmp_path / "volumes.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["null_mean"] for row in csv.DictReader(stream)} == {"0.000000"}


def test_never_promises_what_it_cannot(result: SimpleNamespace, tiny, tmp_path: Path) -> None:
    """Neither a calibrated nor an uncalibrated report."""
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(tmp_path)]) == 0
    for folder in (result.folder, tmp_path):
        text = (folder / "report.html").read_text(encoding="utf-8").lower()
        assert not re.search(r"anonym|complian|gdpr", re.sub(r"base64,[^\"]+", "", text))


def test_power_card_and_controls_are_shown_where_they_were_measured(result: SimpleNamespace) -> None:
    scores = Scores.read(result.folder)
    scores.run |= {"power": None, "controls": None}
    assert "Not measured for this reference" in report(scores)
    assert "No control scans (real, never trained on) were given when the reference was built" in report(scores)
    assert "--" not in Page(report(scores)).text, "no option of the command line"
    other = {"augmentation": "of another version", "copies": 1, "found": 1, "named": 1, "controls": 1, "flagged": 0}
    row = {"augmentation": "crop_10", "copies": 50, "found": 49, "named": 48, "controls": 40, "flagged": 1}
    scores.run["power"] = {"card": "cheap", "augmentations": [row, other]}
    scores.run["controls"] = {
        "volumes": 4, "slices": 24, "at_1_percent": 0.0125, "at_5_percent": 0.05, "verdict_copy": 0,
        "at_5_percent_interval": [0.01, 0.09],
    }  # fmt: skip
    text = Page(report(scores)).text
    assert "cropped by 10 %" in text
    assert "crop_10" not in text
    assert "of another version" in text
    assert "Right person named: of these, matched to the person whose slice was copied" in text
    assert "49 of 50 (98 %)" in text
    assert "48 of 50" in text
    assert "1 of 40 (2 %)" in text
    assert "4 real images (24 slices) that were never trained on: 0 got the verdict copy" in text
    assert "1.2 % (expected 1 %)" in text
    assert "5.0 %, 95 % interval 1.0 to 9.0 % (expected 5 %)" in text


def test_says_where_p_is_not_calibrated(result: SimpleNamespace) -> None:
    scores = Scores.read(result.folder)
    found = {"slices": 200, "volumes": 20, "limit": 1.0, "shift": 0.7}
    for calibrated, ks, said in [
        (
            False,
            1e-6,
            "p is not calibrated for this generator. Compared with the null were the 200 slices, of 20 images",
        ),
        (True, 1e-6, "they do lie nearer (Kolmogorov–Smirnov p = 1e-06): for these images p is smaller than it should"),
        (True, 0.2, "within the limit of 1: p may be read as it is"),
        (None, 0.2, "too few images without flagged slices"),
    ]:
        scores.run["generator"] = {**found, "p_calibrated": calibrated, "ks_p": ks}
        assert said in " ".join(Page(report(scores)).text.split())


def test_method_has_the_rules_of_the_documentation(result: SimpleNamespace, page: Page) -> None:
    assert "following one training volume in order (at least three, none same anatomy)" in page.text
    assert "q (in slices.csv and volumes.csv)" in page.text
    assert "on a scale on which all channels have the same null" in page.text


def test_headline_does_not_speak_of_verified_matches_that_there_are_not(result: SimpleNamespace) -> None:
    run = {**result.scores.run, "verdicts": {"copy": 2, "suspicious": 0, "no evidence": 0, "uncalibrated": 3}}
    assert "3 could not be judged, and no copy was verified there (too few" in verdict_sentence(run)


def test_says_how_much_of_a_set_is_copied(result: SimpleNamespace) -> None:
    scores = Scores.read(result.folder)
    share = scores.run["copied_fraction"]
    assert share["units"] == len(scores.volumes["volume"]) == 5
    copied = np.isin(scores.slices["match_class"], ("exact", "copy", "altered copy"))
    assert 0 < copied.mean() <= share["value"] <= share["high"] <= 1
    assert "of the slices are copies" not in report(scores), "an interval over five volumes says nothing"
    scores.run["copied_fraction"] = {"value": 0.534, "low": 0.448, "high": 0.621, "units": 128}
    assert "About 53 % of the slices are copies (95 % interval 45 to 62 %)" in " ".join(report(scores).split())


def test_says_which_verdicts_rest_on_p_alone(result: SimpleNamespace) -> None:
    """Copies whose matches were verified need no such sentence; the same verdicts without verified matches do."""
    scores = Scores.read(result.folder)
    assert "on p alone:" not in report(scores)
    judged = np.isin(scores.volumes["verdict"], ("copy", "suspicious"))
    one = scores.slices["volume"] == scores.volumes["volume"][judged][0]
    scores.slices["match_class"][one] = "novel"
    said = " ".join(Page(report(scores)).text.split())
    expected = f"One of these {judged.sum()} verdicts rests on p alone: the image comes closer to the training set than"
    assert expected in said
    two = scores.slices["volume"] == scores.volumes["volume"][judged][1]
    scores.slices["match_class"][two] = "novel"
    assert f"2 of these {judged.sum()} verdicts rest on p alone: the images come" in report(scores)
    scores.slices["match_class"][:] = "novel"
    assert "These verdicts rest on p alone: the images come closer" in report(scores)
    scores.run["copied_fraction"] |= {"units": 10, "value": 0.4}
    assert "none was verified, but more have p ≤ 0.01 than chance explains" in report(scores)
    assert "those that were verified" not in report(scores)
    scores.volumes["verdict"][np.flatnonzero(judged)[1:]] = "no evidence"
    assert "This verdict rests on p alone: the image comes closer" in report(scores)


def test_parameters_read_like_words(result: SimpleNamespace, page: Page) -> None:
    shrinkage = result.scores.run["parameters"]["shrinkage"]
    assert ", ".join(f"{name} {value:g}" for name, value in shrinkage.items()) in page.text
    assert not re.search(r"[{}\[\]]", page.text)


def test_flagged_images_without_evidence_are_explained(result: SimpleNamespace) -> None:
    scores = Scores.read(result.folder)
    flagged = np.flatnonzero(scores.volumes["n_flagged"] > 0)
    before = int((scores.volumes["verdict"][flagged] == "no evidence").sum())
    scores.volumes["verdict"][flagged[scores.volumes["verdict"][flagged] != "no evidence"][:1]] = "no evidence"
    said = " ".join(Page(report(scores)).text.split())
    assert f"{before + 1} of them with the verdict no evidence" in said


def test_charts_have_a_legend_with_their_own_marks(result: SimpleNamespace) -> None:
    legend = re.search(r'<p class="legend">.*?</p>', result.source, re.S).group()
    shown = re.findall(r'd="M[\d.]+ [\d.]+(l4.5 4.5[^"]*)" fill="(#\w+)"', legend)
    assert len(shown) == 2, "exact or copy, and altered copy or by p"
    charts = "".join(sections(result.source).values())
    used = set(re.findall(r'd="M[\d.]+ [\d.]+(l4.5 4.5[^"]*)" fill="(#\w+)"', charts))
    assert used
    assert used <= set(shown)
    assert set(re.findall(r'<circle [^>]*r="2" fill="(#\w+)"', charts)) <= set(
        re.findall(r'r="2" fill="(#\w+)"', legend)
    )
    assert "flagged: exact or copy" in legend
    assert "not flagged" in legend


# --------------------------------------------------------------------------------------------------------------------
# The reader's decisions


def write_decisions(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("volume", "slice", "decision", "note", "time", "reader"), *rows])
    return path


def test_decisions_are_shown_with_their_volumes(result: SimpleNamespace, tmp_path: Path, capsys) -> None:
    shutil.copytree(result.folder, tmp_path / "result")
    write_decisions(
        tmp_path / "result" / "decisions.csv",
        ("mirrored.nii.gz", "", "copy", "left & right <i>swapped</i>", "2026-01-02T03:04:05Z", "R. D."),
        ("mirrored.nii.gz", "10", "unsure", "", "", ""),
        ("mirrored.nii.gz", "9", "copy", "", "", ""),
        ("new-50.nii.gz", "", "not a copy", "", "", "R. D."),
        ("of another result", "", "copy", "", "", ""),
    )
    assert main(["report", str(tmp_path / "result")]) == 0
    source = (tmp_path / "result" / "report.html").read_text(encoding="utf-8")
    said = " ".join(Page(source).text.split())
    assert "Read by people: 2 of 5 images (1 copy, 1 not a copy); 2 decisions on single slices." in said
    row = list(result.scores.volumes["volume"]).index("mirrored.nii.gz")
    own = Page(sections(source)[f"image-{row}"]).text
    assert "left & right <i>swapped</i>" in own
    assert own.index("slice 9") < own.index("slice 10")
    assert "of another result" not in said
    elsewhere = write_decisions(tmp_path / "mine.csv", ("new-51.nii.gz", "", "unsure", "", "", ""))
    assert main(["report", str(tmp_path / "result"), "--decisions", str(elsewhere)]) == 0
    assert "1 of 5 images (1 unsure)" in (tmp_path / "result" / "report.html").read_text(encoding="utf-8")
    assert "decisions.csv: had other decisions; those of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"volume,decision\na,copy\n", "has no column slice"), (b"\xff\xfe\x00", "is not a table")],
)
def test_other_tables_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "decisions.csv").write_bytes(content)
    with pytest.raises(MemorizationIndexError, match=said):
        read_decisions(tmp_path / "decisions.csv")
    assert read_decisions(tmp_path / "none.csv") == []


def test_given_decisions_are_kept_where_verify_finds_them(tiny, tmp_path: Path, capsys) -> None:
    out = tmp_path / "result"
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(out)]) == 0
    given = write_decisions(tmp_path / "mine.csv", ("sub-00.nii.gz", "", "copy", "", "", "R. D."))
    capsys.readouterr()
    assert main(["report", str(out), "--decisions", str(given)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(out / "report.html"), str(out / "decisions.csv")]
    assert (out / "decisions.csv").read_bytes() == given.read_bytes()
    assert "Read by people: 1 of 3" in " ".join(Page((out / "report.html").read_text(encoding="utf-8")).text.split())
    verify = ["verify", str(tiny.reference), "--result", str(out), "--queries", str(tiny.training)]
    assert main(verify) == 0


def test_structured_reports_that_cannot_be_written_leave_the_report(tiny, tmp_path: Path, capsys) -> None:
    """Without the key of a result under pseudonyms (or without highdicom)."""
    out = tmp_path / "result"
    assert main(["score", str(tiny.reference), str(tiny.training), "--out", str(out), "--pseudonymize"]) == 0
    (out / "report.html").write_text("as it was", encoding="utf-8")
    arguments = ["--dicom-sr", str(tmp_path / "reports"), "--queries", str(tiny.training)]
    assert main(["report", str(out), *arguments]) == 2
    assert "expected" in capsys.readouterr().err
    assert (out / "report.html").read_text(encoding="utf-8") == "as it was"


def test_decisions_that_are_not_there_are_refused(result: SimpleNamespace, tmp_path: Path, capsys) -> None:
    assert main(["report", str(result.folder), "--decisions", str(tmp_path / "gone.csv")]) == 2
    assert "gone.csv: does not exist" in capsys.readouterr().err


def test_slices_may_be_called_anything(tmp_path: Path) -> None:
    rows = [("v", name, "copy", "", "", "") for name in ("²", "10", "9", "-1", "x" * 5000, "")]
    found = of_volume(read_decisions(write_decisions(tmp_path / "d.csv", *rows)), "v")
    assert [d.slice for d in found[:2]] == ["", "9"]
    assert len(found) == 6


# --------------------------------------------------------------------------------------------------------------------
# Results that were made by hand


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calibration", {}),
        ("calibration", None),
        ("verdicts", []),
        ("skipped", [3]),
        ("reference", {"counts": {}}),
        ("power", {"augmentations": [{"augmentation": "x"}]}),
        ("generator", {"p_calibrated": False}),
        ("controls", {"volumes": "many"}),
        ("encoder", "none"),
    ],
)
def test_results_that_do_not_fit_together_are_refused(
    result: SimpleNamespace, tmp_path: Path, capsys, key: str, value
) -> None:
    shutil.copytree(result.folder, tmp_path / "result")
    path = tmp_path / "result" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert main(["report", str(tmp_path / "result")]) == 2
    message = capsys.readouterr().err
    assert "expected what 'memorization-index score' wrote" in message
    assert "\n" not in message.strip()


# --------------------------------------------------------------------------------------------------------------------
# Pictures and paper


def test_difference_ignores_brightness_and_contrast() -> None:
    random = np.random.default_rng(0)
    image = np.clip(random.normal(0.5, 0.15, (128, 128)), 0.1, 0.9)
    image[:20] = 0
    altered = np.where(image > 0, 0.7 * image + 0.15, 0)
    changed = altered.copy()
    changed[60:70, 60:70] += 0.25
    as_bytes = [np.round(x * 255).astype(np.uint8) for x in (image, altered, changed)]
    assert difference(as_bytes[1], as_bytes[0]).max() <= 6
    found = difference(as_bytes[2], as_bytes[0])
    assert found[60:70, 60:70].min() > 100
    assert np.median(found) <= 6


def test_same_result_gives_the_same_bytes(result: SimpleNamespace, tmp_path: Path) -> None:
    for copy in ("one", "two"):
        shutil.copytree(result.folder, tmp_path / copy)
        assert main(["report", str(tmp_path / copy)]) == 0
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


def test_pdf_is_the_printed_page(result: SimpleNamespace, tmp_path: Path, capsys) -> None:
    pytest.importorskip("weasyprint", reason="needs the extra 'pdf'", exc_type=(ImportError, OSError))
    written = []
    for copy in ("one", "two"):
        shutil.copytree(result.folder, tmp_path / copy)
        assert main(["report", str(tmp_path / copy), "--pdf"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / copy / "report.pdf")
        written.append((tmp_path / copy / "report.pdf").read_bytes())
        time.sleep(1.1)  # fonts have a date, in seconds
    assert written[0] == written[1]
    assert written[0].startswith(b"%PDF-")
    assert len(re.findall(rb"/Subtype ?/Image", written[0])) >= 4 * 3
    streams = [
        zlib.decompress(part)
        for part in re.findall(rb"FlateDecode[^>]*>>\s*stream\n(.*?)\nendstream", written[0], re.S)
    ]
    assert any(b"Copy evidence" in part for part in streams)


def test_pdf_without_weasyprint_says_what_to_do(result: SimpleNamespace, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    shutil.copytree(result.folder, tmp_path / "result")
    assert main(["report", str(tmp_path / "result"), "--pdf"]) == 2
    message = capsys.readouterr().err
    assert ".[pdf]" in message
    assert "\n" not in message.strip()
