"""The imports of qdsft's modules, read from their sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from helpers.paths import ROOT

PACKAGES = (
    "top",
    "recipe",
    "data",
    "metrics",
    "runs",
    "scoring",
    "planning",
    "model",
    "tokenization",
    "inference",
    "training",
    "deploy",
    "cli",
)
"""qdsft's packages in their order: each imports only from those before it. `top` are the modules directly in qdsft."""


def module_name(path: Path) -> str:
    """Return the dotted name of a module; for an `__init__.py` the name of its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path.read_text(encoding="utf-8") for path in sorted((ROOT / "qdsft").rglob("*.py"))}
PACKAGE_MODULES = {module_name(path) for path in (ROOT / "qdsft").rglob("__init__.py")}


def package_of(module: str) -> str:
    """Return the entry of PACKAGES that holds a module of qdsft."""
    name = module.split(".")[1] if module.count(".") else ""
    return name if name in PACKAGES else "top"


def imports(module: str, source: str) -> Iterator[tuple[str, bool]]:
    """Return (full name, whether at module level) of every import, without imports for type checkers.

    `from qdsft.runs import layout` gives `qdsft.runs.layout` where that is a module.
    """
    tree = ast.parse(source)
    inside = {node for scope in ast.walk(tree) if isinstance(scope, ast.FunctionDef) for node in ast.walk(scope)}
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    home = module if module in PACKAGE_MODULES else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = home.split(".")[: home.count(".") + 2 - node.level] if node.level else []
            base = ".".join([*above, node.module or ""]).strip(".")
            names = [full if (full := f"{base}.{alias.name}") in SOURCES else base for alias in node.names]
        else:
            continue
        for name in names:
            yield name, node not in inside
