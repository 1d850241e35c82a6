"""Real scans as people load them for training, with MONAI and with nibabel, in the layouts that the tutorial names."""

import numpy as np
import pytest
from golden import FOLDER
from memorization_index import Reference
from memorization_index.integrations.samples import SampleScorer

DATA = FOLDER.parent / "data"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA.is_dir(), reason=f"the real scans are not there ({DATA})")]

CROPS = [DATA / "hippocampus" / "images" / f"hippocampus_{number:03d}.nii.gz" for number in (1, 3, 6, 7, 11, 14)]
#: A crop of a person who is in no reference here.
NEW = DATA / "hippocampus" / "images" / "hippocampus_033.nii.gz"
#: Stored from left to right in sagittal slices, of voxels that are long in one direction.
SPINE = DATA / "spider_spine" / "sub-002_T2w.nii.gz"


@pytest.fixture(scope="module")
def crops() -> Reference:
    return Reference.build(CROPS, power="none")


@pytest.fixture(scope="module")
def spine() -> Reference:
    return Reference.build(SPINE, power="none")


def by_monai(path, reader="NibabelReader"):
    """A batch of one sample ``(1, 1, x, y, z)`` and its voxel sizes, as MONAI's tutorials load it."""
    transforms = pytest.importorskip("monai.transforms", reason="needs monai")
    if reader == "ITKReader":
        pytest.importorskip("itk", reason="needs itk")
    load = transforms.Compose(
        [
            transforms.LoadImaged("image", reader=reader),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="RAS"),
        ]
    )
    image = load({"image": str(path)})["image"]
    return image[None], [float(size) for size in image.pixdim]


def by_nibabel(path):
    nibabel = pytest.importorskip("nibabel", reason="needs nibabel")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return image.get_fdata(dtype=np.float32)[None, None], [float(size) for size in image.header.get_zooms()]


LOADERS = {
    "nibabel": by_nibabel,
    "monai": by_monai,
    "monai, itk": lambda path: by_monai(path, "ITKReader"),
}


@pytest.fixture(params=LOADERS)
def load(request):
    return LOADERS[request.param]


def found(reference, loaded, layout):
    """Whether one sample is a copy (0 or 1), the file that it matches, and its slices."""
    samples, spacing = loaded
    scorer = SampleScorer(reference, layout=layout, spacing=spacing)
    rate = scorer(samples)
    table = scorer.scores.volumes
    return rate.copies, table["match_volume"][0], scorer.scores.slices


@pytest.mark.parametrize("path", CROPS[::3], ids=lambda path: path.name)
def test_a_scan_in_the_layout_of_the_tutorial_is_found_as_it_is(crops, load, path):
    copies, match, slices = found(crops, load(path), "RAS")
    assert (copies, match) == (1, path.name)
    assert set(slices["match_class"]) == {"exact"}
    assert set(slices["transform"]) == {"identity"}, "neither turned nor mirrored"


def test_a_scan_that_is_stored_otherwise_is_turned_by_its_loader(spine, load):
    copies, match, slices = found(spine, load(SPINE), "RAS")
    assert (copies, match) == (1, SPINE.name)
    assert set(slices["transform"]) == {"identity"}


@pytest.mark.parametrize("path", CROPS[::3], ids=lambda path: path.name)
def test_in_the_wrong_order_of_axes_no_copy_is_found(crops, load, path):
    assert found(crops, load(path), "zyx")[0] == 0


def test_somebody_else_is_no_copy(crops, load):
    assert found(crops, load(NEW), "RAS")[0] == 0


def test_the_handler_expects_what_monai_gives(crops):
    engine = pytest.importorskip("ignite.engine", reason="needs pytorch-ignite")
    from memorization_index.integrations.monai_handler import MemorizationHandler

    samples, spacing = by_monai(CROPS[0])
    trainer = engine.Engine(lambda _engine, _batch: None)
    MemorizationHandler(lambda _engine: samples, crops, every_n_epochs=1, spacing=spacing).attach(trainer)
    trainer.run([0], max_epochs=1)
    assert trainer.state.metrics["copied_fraction"] == 1


@pytest.mark.parametrize(("settings", "expected"), [({"layout": "RAS"}, 1), ({}, 0)], ids=["RAS", "default"])
def test_the_metric_is_told_the_layout(crops, settings, expected):
    pytest.importorskip("torchmetrics", reason="needs torchmetrics")
    from memorization_index.integrations.metric import CopiedFraction

    samples, spacing = by_monai(CROPS[0])
    metric = CopiedFraction(crops, spacing=spacing, **settings)
    metric.update(samples)
    assert float(metric.compute()["copied_fraction"]) == expected
