"""Find a base model's config.json: in a local folder, the Hub's cache, beside the shipped recipe, or on the Hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.strict_json import read_object

NAME = "config.json"
SOURCE = "qdsft_source"
"""Key of a shipped config.json that says where its figures come from."""
REMEDY = "put the model's config.json there"
SECONDS = 5
"""Time limit for the Hub's first answer."""


def read_config(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """Return the fields of the model's config.json, and where it was found.

    Raises UserError if it cannot be found, or is not a JSON mapping with a model_type.
    """
    recipe.check_local_model()
    path = _find(recipe)
    config = read_object(path, REMEDY)
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"{path}: has no model_type; {REMEDY}")
    if not isinstance(config.get("quantization_config") or {}, dict):
        raise UserError(f"{path}: quantization_config is not a mapping; {REMEDY}")
    return config, str(path)


def _find(recipe: Recipe) -> Path:
    local = Path(recipe.model.name_or_path) / NAME
    if local.is_file():
        return local
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry
    name, revision = recipe.model.name_or_path, recipe.model.revision or "main"
    try:
        cached = try_to_load_from_cache(name, NAME, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        if (shipped := _shipped(recipe)) is not None:
            return shipped
        if not constants.HF_HUB_OFFLINE:
            say(f"asking the Hub for the {NAME} of {name}")
        return Path(hf_hub_download(name, NAME, revision=revision, etag_timeout=SECONDS))
    except (OSError, HFValidationError, ValueError) as error:
        raise UserError(
            f"{recipe.where('model.name_or_path')}: the {NAME} of {name} is not on this machine, and the Hub does not "
            f"give it ({type(error).__name__}); set model.name_or_path to a folder with the file, or connect to the "
            "network (a gated model requires HF_TOKEN); with HF_HUB_OFFLINE=1 the Hub is not asked"
        ) from error


def _shipped(recipe: Recipe) -> Path | None:
    """Return the config.json beside a recipe, unless an override names another model."""
    path = recipe.path.parent / NAME
    if not path.is_file() or not recipe.where("model.name_or_path").startswith(f"{recipe.path}:"):
        return None
    return path if SOURCE in read_object(path, REMEDY) else None
