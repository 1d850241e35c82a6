"""The short form of Testing/faults/fuzz.py: a few damaged files of every kind, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "faults" / "fuzz.py"
#: Files of each kind of which opening one takes longer.
SLOW = ("dicom", "bundle", "result", "checkpoint")
QUICK = (
    "nifti", "nifti-gz", "nrrd", "nrrd-detached", "metaimage", "metaimage-detached", "png", "jpeg", "tiff", "npy",
    "table", "list", "safetensors",
)  # fmt: skip


def fuzzed(out: Path, names: tuple[str, ...], executions: int) -> dict:
    command = [sys.executable, FUZZ, "--out", out, "--targets", ",".join(names), "--executions", executions]
    done = subprocess.run([*map(str, command), "--seed", "1"], capture_output=True, text=True, check=False)
    record = json.loads((out / "fuzz.json").read_text())
    findings = {name: entry["findings"] for name, entry in record["targets"].items() if entry["findings"]}
    assert not findings, json.dumps(findings, indent=1)
    assert done.returncode == 0, done.stderr
    return record["targets"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of a process")
@pytest.mark.slow
@pytest.mark.parametrize(("names", "executions"), [(QUICK, 4000), (SLOW, 300)])
def test_damaged_files_are_read_or_refused_in_a_sentence(
    tmp_path: Path, names: tuple[str, ...], executions: int
) -> None:
    targets = fuzzed(tmp_path, names, executions)
    assert set(targets) == set(names)
    for name, entry in targets.items():
        assert set(entry["outcomes"]) <= {"accepted", "refused"}, name
        assert entry["outcomes"]["refused"] > 0, f"{name}: the damage reaches the reader"
        assert sum(entry["outcomes"].values()) == entry["executions"]
