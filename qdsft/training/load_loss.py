"""Load the loss function of a recipe that names a function (`training.loss_type: path/to/file.py:function`)."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import KEY, CustomLoss, find_custom_loss


def load_custom_loss(recipe: Recipe) -> Callable[..., Any] | None:
    """Import and return the recipe's loss function; None for a loss of TRL.

    The function gets `(outputs, labels, num_items_in_batch=...)`, as transformers' `compute_loss_func` does. Raises
    UserError if the file cannot be imported or the function cannot be called like that.
    """
    loss = find_custom_loss(recipe)
    if loss is None:
        return None
    where = f"{recipe.where(KEY)}: {KEY}: {loss.path}"
    try:
        module = _import(loss)
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"{where} fails when it is imported: {type(error).__name__}: {error}") from error
    function: Callable[..., Any] | None = getattr(module, loss.function, None)
    if not callable(function):
        raise UserError(f"{where}: {loss.function} is not callable; name a function")
    try:
        inspect.signature(function).bind(None, None, num_items_in_batch=None)
    except TypeError as error:
        raise UserError(
            f"{where}: {loss.function} must take (outputs, labels, num_items_in_batch): {error}; change its parameters"
        ) from error
    return function


def _import(loss: CustomLoss) -> ModuleType:
    name = f"qdsft_custom_loss_{loss.path.stem}"
    spec = importlib.util.spec_from_file_location(name, loss.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module
