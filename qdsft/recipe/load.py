"""Load a recipe from a YAML file or a Python mapping and apply overrides."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.recipe import strict_yaml
from qdsft.recipe.idle_keys import check_idle_keys
from qdsft.recipe.lora_init_keys import check_lora_init
from qdsft.recipe.patterns import check_patterns
from qdsft.recipe.recipe import COMMAND_LINE, PYTHON, Recipe
from qdsft.recipe.run_folder import folder_problem
from qdsft.recipe.schema import find_problem, recipe_schema, section_schema, shipped_recipes

RecipeSource = str | Path | Mapping[str, Any] | Recipe
"""A YAML file, the name of a shipped recipe such as "tiny/full", the sections as a mapping, or a loaded recipe."""


def load_recipe(source: RecipeSource, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a source with `section.key=value` overrides applied.

    A mapping is read as a recipe in the working directory, named after it. Raises UserError, with file and line or
    "command line", for a missing file, broken YAML, an unknown, duplicate, renamed or mistyped key, and for values that
    contradict each other.
    """
    if isinstance(source, Recipe) and not overrides:
        return source
    if isinstance(source, Recipe):
        path, data, origins = source.path, source.resolved(), dict(source.origins)
    elif isinstance(source, Mapping):
        path, data = Path("recipe"), _plain(source)
        origins = {name: PYTHON for name in _names(data)}
    else:
        path, data, origins = _read(source)
    for override in overrides:
        _override(data, origins, override)
    return build_recipe(path, data, origins)


def _read(source: str | Path) -> tuple[Path, dict[str, Any], dict[str, str]]:
    path = find_recipe(source)
    data, lines = strict_yaml.load(read_text(path), str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: not a recipe; write a YAML mapping with the sections model, data, training, ...")
    return path, data, {".".join(key): f"{path}:{line}" for key, line in lines.items()}


def _plain(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a mapping as JSON holds it; paths become text. Raises UserError for any other object."""

    def text(value: object) -> str:
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"{value!r} is a {type(value).__name__}")

    try:
        data: dict[str, Any] = json.loads(json.dumps(dict(source), default=text, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"{PYTHON}: a recipe holds text, numbers, lists and mappings: {error}") from error
    return data


def _names(data: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield `section`, `section.key`, ... of every key."""
    for key, value in data.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from _names(value, f"{before}{key}.")


def find_recipe(name: str | Path) -> Path:
    """Return the file of that name, else the shipped recipe `<folder>/<method>`, with or without recipes/ and .yaml.

    Returns `name` if neither exists.
    """
    shipped = re.fullmatch(r"(?:recipes[/\\])?(\w+)[/\\](\w+)(?:\.yaml)?", str(name))
    if shipped and not os.path.isfile(name):
        path = shipped_recipes() / shipped[1] / f"{shipped[2]}.yaml"
        if path.is_file():
            return path
    return Path(name)


def build_recipe(path: Path, data: Mapping[str, Any], origins: dict[str, str]) -> Recipe:
    """Make a Recipe of parsed values. Raises UserError as load_recipe does."""
    if problem := find_problem(data):
        key, message = problem
        raise UserError(f"{origins.get('.'.join(key), path)}: {message}")
    if "train" not in (data.get("data") or {}):
        raise UserError(f"{path}: data.train is missing; give a data file or a Hub dataset with data.train=FILE")
    recipe = Recipe.model_validate({**data, "path": path, "origins": origins})
    _check_combinations(recipe)
    return recipe


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises UserError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give the path of a readable file") from error
    except ValueError as error:  # a NUL character in the path
        raise UserError(f"{path!r}: {error}; give the path of a readable file") from error


def _override(data: dict[str, Any], origins: dict[str, str], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise UserError(f"{COMMAND_LINE}: {override!r} is not an override; write section.key=value")
    if re.search("[\0\ud800-\udfff]", override):
        raise UserError(f"{COMMAND_LINE}: {override!r} is not UTF-8 text; check the terminal's encoding")
    value, lines = _override_value(name, text)
    node = data
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        if not isinstance(node[key], dict):
            raise UserError(f"{COMMAND_LINE}: {name} reaches into {key}, which is a value, not a section")
        node = node[key]
    node[keys[-1]] = value
    for known in [key for key in origins if key.startswith(f"{name}.")]:
        del origins[known]
    origins |= {".".join((*keys, *path)): COMMAND_LINE for path in lines}
    for depth in range(2, len(keys) + 1):
        origins[".".join(keys[:depth])] = COMMAND_LINE
    origins.setdefault(keys[0], COMMAND_LINE)
    if len(keys) == 1:
        origins[name] = COMMAND_LINE


def _override_value(name: str, text: str) -> tuple[Any, dict[strict_yaml.Path, int]]:
    """Parse a value as YAML, but keep it as text if the key takes only text: `prompt.user=Sum up: {{ text }}`."""
    section, _, key = name.partition(".")
    schema = section_schema(section).get(key, {}) if section in recipe_schema()["properties"] else {}
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])} - {"null"}
    is_text = kinds == {"string"} or (kinds == {"string", "array"} and not text.startswith("["))
    if is_text and text != "null" and text[:1] not in {"'", '"'}:
        return text, {}
    return strict_yaml.load(text, f"{COMMAND_LINE}: {name}")


def _check_sources(recipe: Recipe) -> None:
    paths = [str(Path(name)) for name in recipe.data.train_paths]
    for name in (name for place, name in enumerate(paths) if name in paths[:place]):
        raise UserError(
            f"{recipe.where('data.train')}: data.train names {name} twice; give it once, with the sum of the weights"
        )


def _check_combinations(recipe: Recipe) -> None:
    _check_sources(recipe)
    given = recipe.training.get("output_dir")
    if problem := folder_problem(str(Path("outputs") / recipe.name) if given is None else given):
        raise UserError(f"{recipe.where('training.output_dir')}: training.output_dir: {problem}")
    quantization, lora = recipe.quantization or {}, recipe.lora
    if quantization and lora is None:
        raise UserError(
            f"{recipe.where('quantization')}: quantized weights cannot be trained themselves; "
            "add a lora section, or remove quantization"
        )
    if quantization and quantization.get("load_in_4bit", False) == quantization.get("load_in_8bit", False):
        raise UserError(
            f"{recipe.where('quantization')}: set exactly one of quantization.load_in_4bit and load_in_8bit to true"
        )
    if recipe.packing and recipe.max_length is None:
        raise UserError(f"{recipe.where('training.max_length')}: packing needs training.max_length, the tokens to fill")
    check_patterns(recipe)
    if _targets_lm_head(recipe):
        raise UserError(
            f"{recipe.where('lora.target_modules')}: an adapter on lm_head is never trained by TRL's fused loss; "
            "remove it from lora.target_modules"
        )
    for key in ("learning_rate", "num_train_epochs"):
        if (value := recipe.training_value(key)) <= 0:
            raise UserError(f"{recipe.where(f'training.{key}')}: training.{key} must be above 0, not {value}")
    check_idle_keys(recipe)
    check_lora_init(recipe)
    _check_publish(recipe)


def _check_publish(recipe: Recipe) -> None:
    if recipe.publish.push_checkpoints and not recipe.publish.hub_model_id:
        key = "publish.push_checkpoints"
        raise UserError(f"{recipe.where(key)}: {key} needs publish.hub_model_id=user/name")


def _targets_lm_head(recipe: Recipe) -> bool:
    """Return whether an adapter would be on lm_head by PEFT's rule: a list of names or a pattern for full names."""
    targets = (recipe.lora or {}).get("target_modules") or []
    if isinstance(targets, list):
        return "lm_head" in targets
    return re.fullmatch(targets, "lm_head") is not None
