"""The command that made the sample data makes it again."""

import importlib.util
from pathlib import Path

import numpy as np
import SimpleITK as sitk

RESOURCES = Path(__file__).resolve().parents[2] / "Resources"


def test_the_command_makes_the_files_that_are_kept(tmp_path):
    spec = importlib.util.spec_from_file_location("make_sample_data", RESOURCES / "make_sample_data.py")
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    made = command.make(tmp_path)
    assert {p.name for p in made} == {p.name for p in (RESOURCES / "SampleData").iterdir()}
    for path in made:
        kept, new = (sitk.ReadImage(str(p)) for p in (RESOURCES / "SampleData" / path.name, path))
        assert (new.GetSize(), new.GetSpacing(), new.GetOrigin()) == (
            kept.GetSize(),
            kept.GetSpacing(),
            kept.GetOrigin(),
        )
        difference = np.abs(sitk.GetArrayFromImage(kept).astype(int) - sitk.GetArrayFromImage(new))
        assert difference.max() <= 1, path.name
        assert (difference > 0).mean() < 1e-3, path.name
