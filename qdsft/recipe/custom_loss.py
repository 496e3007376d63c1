"""Find the Python function that training.loss_type names (`path/to/file.py:function`) without importing its file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from qdsft.errors import UserError
from qdsft.recipe.recipe import Recipe

KEY = "training.loss_type"
PATTERN = r"^.+\.py:[A-Za-z_]\w*$"
"""A file and a function in it. The schema holds the same pattern beside the names of TRL's own losses."""


@dataclass(frozen=True)
class CustomLoss:
    """A loss function in a Python file."""

    path: Path
    function: str


def is_custom_loss(recipe: Recipe) -> bool:
    """Return whether training.loss_type names a file and function instead of a loss of TRL."""
    return re.match(PATTERN, str(recipe.training.get("loss_type"))) is not None


def find_custom_loss(recipe: Recipe) -> CustomLoss | None:
    """Return the file and function of training.loss_type; None for a loss of TRL.

    Looks for the file beside the recipe first, then in the current folder. Raises UserError if the file is missing,
    is no Python, or does not define the function at its top level.
    """
    if not is_custom_loss(recipe):
        return None
    name, _, function = recipe.training["loss_type"].rpartition(":")
    where = recipe.where(KEY)
    places = (recipe.path.parent / name, Path(name))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"{where}: {KEY}: no file {name} beside the recipe ({places[0]}) or at {places[1].resolve()}; "
            "correct the path"
        )
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        raise UserError(f"{where}: {KEY}: {path} cannot be read as Python: {error}; correct the file") from error
    if function not in _names(tree):
        raise UserError(f"{where}: {KEY}: {path} has no function {function} at its top level; correct the name")
    return CustomLoss(path, function)


def _names(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, assigns or imports at its top level."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return names
