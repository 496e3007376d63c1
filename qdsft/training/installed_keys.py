"""Compare the keys of a recipe with the installed trl, peft and transformers, if these are untested releases."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig

from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.recipe.schema import section_schema
from qdsft.tested_versions import pinned_versions
from qdsft.training.build import OWN_KEYS

CLASSES: dict[str, type] = {"training": SFTConfig, "lora": LoraConfig, "quantization": BitsAndBytesConfig}
PACKAGES = {"training": ("trl", "transformers"), "lora": ("peft",), "quantization": ("transformers",)}
OWN_DEFAULTS = {
    *("activation_checkpointing", "completion_only_loss", "report_to", "save_total_limit"),
    *("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"),
}
"""Keys whose default in the schema is not the upstream one."""


def check_installed_keys(recipe: Recipe) -> None:
    """Raise UserError if a key of the recipe, or a default it relies on, differs in an installed release."""
    for section, cls in CLASSES.items():
        releases = _untested(PACKAGES[section])
        if releases and (problem := next(differences(recipe, section, cls), None)):
            raise UserError(f"{problem} in the installed {', '.join(releases)}")


def differences(recipe: Recipe, section: str, cls: type) -> Iterator[str]:
    """Yield each key of a section that the class does not take, and each unset key with another default."""
    given = getattr(recipe, section)
    if given is None:
        return
    parameters = inspect.signature(cls).parameters
    for key in given.keys() - OWN_KEYS:
        if key not in parameters:
            yield f"{recipe.where(f'{section}.{key}')}: {section}.{key} has to be removed; there is no such key"
    for key, schema in section_schema(section).items():
        own = key in OWN_KEYS | OWN_DEFAULTS
        if own or key in given or key not in parameters or "default" not in schema:
            continue
        default = _plain(parameters[key].default)
        if default != schema["default"]:
            yield (
                f"{recipe.where(section)}: {section}.{key} must be set, such as {section}.{key}="
                f"{schema['default']}: its default is not {schema['default']} but {default}"
            )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _untested(packages: tuple[str, ...]) -> list[str]:
    """Return "package version (tested: version)" for each package in another release than the tested one."""
    tested = pinned_versions()
    found = [(name, metadata.version(name), tested.get(name)) for name in packages]
    return [f"{name} {version} (tested: {expected})" for name, version, expected in found if version != expected]
