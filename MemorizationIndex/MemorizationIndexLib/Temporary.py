"""Nodes that are there for what is shown at the moment."""

import slicer


def temporaryNode(className, name):
    """Add a node that is neither listed nor saved: hidden before it is added, so that no selector takes it up."""
    scene = slicer.mrmlScene
    node = scene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(name))
    hide(node)
    return scene.AddNode(node)


def hide(node):
    """Keep a node out of lists and saved scenes."""
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
