"""What real PySide6 and a test would forgive but PythonQt, the Extensions Index or a translator would not.

``check(source, name, form)`` returns one sentence for each finding in a file of the module.
"""

import ast
import inspect
import sys
from xml.etree import ElementTree

from PySide6 import QtCore

# What a module file may import when Slicer loads it.
_PACKAGES = {"slicer", "vtk", "qt", "ctk", "numpy", "scipy", "SimpleITK", "memorization_index", "MemorizationIndexLib"}
_MISSING = {"Signal", "Slot", "Property", "QRegExp", "QVariant", "QDesktopWidget", "QtCore", "QtGui", "QtWidgets"}
_SHOWN = {"text", "toolTip", "title", "windowTitle", "placeholderText"}
_LINES = {"MemorizationIndex.py": 25}
_MOST_LINES = 60


def forms(path):
    """``{widget name: class name}`` of a Designer form."""
    return {w.get("name"): w.get("class") for w in ElementTree.parse(path).iter("widget")}


def check(source, name, form):
    """Findings in ``source`` (text of the file ``name``); ``form`` as :func:`forms` gives it."""
    tree = ast.parse(source, feature_version=(3, 11))
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent
    visitor = _Visitor(name, form)
    for statement in tree.body:
        visitor.check_module_import(statement)
    visitor.visit(tree)
    return visitor.findings


class _Visitor(ast.NodeVisitor):
    def __init__(self, name, form):
        self.findings, self._name, self._form = [], name, form

    def _find(self, node, sentence):
        self.findings.append(f"{self._name}:{node.lineno}: {sentence}")

    # --- Imports -----------------------------------------------------------------------------------------------------

    def check_module_import(self, statement):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            names = [statement.module]
        else:
            return
        for name in names:
            package = name.partition(".")[0]
            if package not in _PACKAGES and package not in sys.stdlib_module_names:
                self._find(statement, f"{package} is imported when the file loads; Slicer need not have it")

    def visit_Import(self, node):
        for alias in node.names:
            self._check_binding(node, alias.name)

    def visit_ImportFrom(self, node):
        self._check_binding(node, node.module or "")

    def _check_binding(self, node, name):
        if name.partition(".")[0] in {"PySide2", "PySide6", "PyQt5", "PyQt6", "shiboken6"}:
            self._find(node, f"{name} is not in Slicer; use qt")

    # --- Qt ----------------------------------------------------------------------------------------------------------

    def visit_Attribute(self, node):
        chain = _chain(node)
        if chain and chain[0] in {"qt", "ctk"}:
            self._check_qt(node, chain)
        elif chain and "ui" in chain[:-1]:
            self._check_form(node, chain[chain.index("ui") + 1 :])
        self.generic_visit(node)

    def _check_qt(self, node, chain):
        if len(chain) == 2 and (chain[1] in _MISSING or not hasattr(sys.modules[chain[0]], chain[1])):
            self._find(node, f"PythonQt has no {'.'.join(chain)}")
        if len(chain) == 4 and inspect.isclass(_resolve(chain[:3])):
            self._find(node, f"PythonQt has unscoped enumerations only: {'.'.join((*chain[:2], chain[3]))}")

    def _check_form(self, node, path):
        widget, *members = path
        if not members and widget not in self._form:
            self._find(node, f"the form has no widget {widget}")
        elif len(members) == 1 and widget in self._form:
            self._check_member(node, _class(self._form[widget]), members[0])

    def _check_member(self, node, cls, member):
        kind = inspect.getattr_static(cls, member, None)
        called = isinstance(node.parent, ast.Call) and node.parent.func is node
        isProperty = isinstance(kind, (property, QtCore.Property))  # the latter is callable, as a decorator
        if kind is None:
            self._find(node, f"{cls.__name__} has no {member}")
        elif isProperty and called:
            self._find(node, f"{cls.__name__}.{member} is a property in PythonQt; leave the parentheses out")
        elif callable(kind) and not isProperty and isinstance(node.ctx, ast.Store):
            self._find(node, f"{cls.__name__}.{member} is a method; it cannot be set")

    def visit_Call(self, node):
        chain = _chain(node.func)
        if chain and chain[0] in {"qt", "ctk"} and node.keywords:
            self._find(node, f"PythonQt takes no keyword arguments: {'.'.join(chain)}")
        if chain == ["MemorizationIndexError"] and isinstance(node.args[0], (ast.Constant, ast.JoinedStr)):
            self._find(node, "a sentence for the user is not translated: wrap it in _()")
        if chain == ["_"] and not isinstance(node.args[0], ast.Constant):
            self._find(node, "_() needs a plain string, to be found by translators; use .format() on what it returns")
        self.generic_visit(node)

    def visit_Assign(self, node):
        for target in node.targets:
            shown = isinstance(target, ast.Attribute) and target.attr in _SHOWN
            if shown and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
                self._find(node, "a text for the user is not translated: wrap it in _()")
        self.generic_visit(node)

    # --- Size --------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node):
        lines, most = node.end_lineno - node.lineno + 1, _LINES.get(self._name, _MOST_LINES)
        if lines > most:
            self._find(node, f"{node.name} has {lines} lines; at most {most} are wanted")
        self.generic_visit(node)


def _chain(node):
    """``a.b.c`` as ["a", "b", "c"]; None for anything else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [*reversed([*names, node.id])] if isinstance(node, ast.Name) else None


def _resolve(chain):
    value = sys.modules[chain[0]]
    for name in chain[1:]:
        value = getattr(value, name, None)
    return value


def _class(name):
    """The class that a form's widget class stands for on the host."""
    import slicer

    found = [getattr(module, name, None) for module in (sys.modules["qt"], sys.modules["ctk"], slicer)]
    return next(cls for cls in found if cls is not None)
