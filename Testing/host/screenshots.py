"""Takes the pictures of the panel that the README and the Extensions Index show, on this host.

``python Testing/host/screenshots.py``. The volumes are made up by a generator; nobody's scan is shown.
"""

import sys
import tempfile
from pathlib import Path

# Before Testing is on the path: slicer-core takes every folder called "slicer" on it for a part of itself.
import slicer

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT / "Testing")

import host  # noqa: E402 (found through the line above)


def main(folder):
    """Score a copy, a mirrored copy and a new volume; save the panel as it looks then."""
    host.loadModule(ROOT / "MemorizationIndex" / "MemorizationIndex.py")
    import qt
    from memorization_index import Reference
    from memorization_index.evaluation.cohorts import make_demo_cohort

    slicer.app.setStyle("Fusion")
    files = make_demo_cohort(folder / "training", subjects=8)
    new = make_demo_cohort(folder / "new", subjects=1, first=100)[0]
    reference = Reference.build([folder / "training"], out=folder / "reference", plane="axial")
    volumes = {"synthetic 1": files[2], "synthetic 2": files[5], "synthetic 3": new}
    nodes = [slicer.util.loadVolume(str(path), {"name": name, "show": False}) for name, path in volumes.items()]
    mirrored = slicer.util.arrayFromVolume(nodes[1])
    mirrored[:] = mirrored[:, :, ::-1].copy()
    slicer.util.arrayFromVolumeModified(nodes[1])
    widget = slicer.util.getModuleWidget("MemorizationIndex")
    ui = widget.panel.ui
    widget.parent.show()
    widget.parent.resize(560, 760)
    ui.referencePath.currentPath = str(reference.folder)
    for node in nodes:
        ui.volumeSelector.setCheckState(node, qt.Qt.Checked)
    ui.applyButton.click()
    widget.logic.wait()
    ui.referencePath.currentPath = "/data/reference"  # not a temporary folder's name
    ui.volumeTableView.resizeColumnsToContents()
    ui.volumeTableView.selectRow(0)
    slicer.app.processEvents()
    widget.parent.grab().save(str(ROOT / "Resources" / "Screenshots" / "panel.png"))
    slicer.modules.memorizationindex.unload()
    host.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
