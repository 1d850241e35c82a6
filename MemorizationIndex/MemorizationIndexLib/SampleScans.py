"""The set that Slicer's Sample Data module offers for the tutorial: computed heads, nobody's scans."""

import importlib
from pathlib import Path

from slicer.i18n import tr as _

_FOLDER = "https://raw.githubusercontent.com/MemorizationIndex/SlicerMemorizationIndex/main/Resources/SampleData/"
_ICONS = Path(__file__).resolve().parent.parent / "Resources" / "Icons"

#: Node name → SHA-256 of its file. ``Resources/make_sample_data.py`` makes the files and prints these.
SAMPLE_SCANS = {
    "Training1": "7ae8bee0801616c4d9db0695e11c9a2bec563b56553c55795c81031c1e87dea0",
    "Training2": "551bc659ebe2440e3f11783c10b274ab9599dcfc623fffb4829c1c407d31149c",
    "Training3": "8a29fc421cc2a0a5d9207d79bdd1d957e336dd12c275477a9902e6038d0c5b56",
    "Training4": "e903d66db5a020af75fe1694227a7bff3dd1f293fadf9cb9153fb0623bca03d3",
    "Training5": "68fcd00a7a25d321a449c903e95339c7bfc0063162c904d6c6fda15a67881c73",
    "Training6": "7663ad063c32214effc645c49d70ca07ad8715c76d98d90c40301e18b75993f7",
    "Synthetic1": "ff43474ccb97e265f773c6f98c12f48efc7f0263749d7d13e7a9a246dc7d53e3",
    "Synthetic2": "b546ba504a9303746e76afc97fbb8918218e7ae8b68aad0ac4f8be0c802c4644",
}


def registerSampleScans():
    """Offer the set: six training scans, a synthetic volume that copies one of them, and one that copies none."""
    logic = importlib.import_module("SampleData").SampleDataLogic

    logic.registerCustomSampleDataSource(
        category=_("Memorization Index"),
        sampleName=_("Training and synthetic heads"),
        uris=[f"{_FOLDER}{name}.nrrd" for name in SAMPLE_SCANS],
        fileNames=[f"MemorizationIndex-{name}.nrrd" for name in SAMPLE_SCANS],
        nodeNames=list(SAMPLE_SCANS),
        checksums=[f"SHA256:{digest}" for digest in SAMPLE_SCANS.values()],
        thumbnailFileName=str(_ICONS / "SampleScans.png"),
    )
