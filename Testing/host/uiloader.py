"""``qt.QUiLoader`` that refuses what it does not know and makes the connections that MRML types hide from real Qt."""

from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools

from . import widgets

_STAND_INS = {cls.__name__: cls for cls in widgets.CTK + widgets.QMRML}


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a Designer form.

    A widget class that is neither Qt's nor a stand-in, a property that a stand-in does not declare, and a connection
    whose sender, signal, receiver or slot does not exist are errors; Qt itself would load the form without them.
    """

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        self._check(root)
        connections, sets = self._detach(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widgets.Strict.beingLoaded = True
        try:
            widget = super().load(buffer, parent)
        finally:
            widgets.Strict.beingLoaded = False
        if widget is None:
            raise RuntimeError(f"Qt cannot load the form: {self.errorString()}")
        for name, key, value in sets:
            setattr(self._child(widget, name), key, value)
        for sender, signal, receiver, slot in connections:
            self._child(widget, sender).connect(signal, self._child(widget, receiver), slot)
        return widget

    def _check(self, root):
        known = set(self.availableWidgets())
        for element in root.iter("widget"):
            name = element.get("class")
            if name not in _STAND_INS:
                if name not in known:
                    raise ValueError(f"The form uses {name}, which is neither Qt's nor a stand-in of this host")
                continue
            self.registerCustomWidget(_STAND_INS[name])
            for entry in element.findall("property"):
                declared = entry.get("stdset") == "0" or hasattr(_STAND_INS[name], entry.get("name"))
                if not declared:
                    raise ValueError(f"{name} has no property {entry.get('name')!r}")

    @staticmethod
    def _detach(root):
        """Take out of the form what real Qt would ignore with a warning; it is applied after loading."""
        connections, sets = [], []
        for parent in list(root.iter("connections")):
            for entry in list(parent):
                connections.append(tuple(entry.findtext(key) for key in ("sender", "signal", "receiver", "slot")))
                parent.remove(entry)
        for element in root.iter("widget"):
            for entry in element.findall("property"):
                if element.get("class") in _STAND_INS and entry.find("set") is not None:
                    sets.append((element.get("name"), entry.get("name"), entry.findtext("set")))
                    element.remove(entry)
        return connections, sets

    @staticmethod
    def _child(widget, name):
        child = widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
        if child is None:
            raise ValueError(f"The form's connections name {name!r}, which it does not contain")
        return child
