"""Validate a recipe's keys and values against the committed JSON Schema.

`scripts/make_schema.py` generates `recipes/recipe.schema.json` from the pinned releases, so checking a recipe does not
import them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from qdsft.errors import UserError, cut
from qdsft.recipe.foreign_keys import foreign_key
from qdsft.recipe.upstream_keys import REFUSED_VALUES, RENAMED, RESERVED, UPSTREAM

SCHEMA = "recipe.schema.json"


@cache
def shipped_recipes() -> Path:
    """Return the folder of the recipes that come with qdsft: in the installed package, else in the checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "recipes", package.parent / "recipes"):
        if (folder / SCHEMA).is_file():
            return folder
    raise UserError(f"recipes/{SCHEMA} is missing from this installation; install qdsft again")


@cache
def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe."""
    schema: dict[str, Any] = json.loads((shipped_recipes() / SCHEMA).read_text(encoding="utf-8"))
    return schema


def section_schema(section: str) -> dict[str, Any]:
    """Return key -> JSON Schema of its value, for one section."""
    properties: dict[str, Any] = recipe_schema()["properties"][section].get("properties", {})
    return properties


def upstream_default(section: str, key: str) -> Any:
    """Return the default of an upstream key in the pinned release."""
    return section_schema(section)[key].get("default")


def find_problem(data: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """Return the first problem of a parsed recipe as (key path, message), or None."""
    sections = recipe_schema()["properties"]
    for section, content in data.items():
        if section not in sections:
            return (section,), _unknown_section(section)
        if problem := _value_problem(content, schema_of_value(sections[section]), section):
            return (section,), problem
        if not isinstance(content, dict):
            continue
        for key, value in content.items():
            schema = sections[section]["properties"].get(key)
            problem = (
                _key_problem(section, key) if schema is None else _value_problem(value, schema, f"{section}.{key}")
            )
            if problem:
                return (section, key), problem
    if "name_or_path" not in (data.get("model") or {}):
        return ("model",), "model.name_or_path is missing; it names a Hub model or a local folder"
    return None


def find_key(name: str) -> str | None:
    """Return what a recipe calls `learning_rate`, `lora_rank` or `training.learning_rate`; None if it has no such key.

    The result may end in a remark in brackets.
    """
    name = name.lower().replace("-", "_")
    section, _, key = name.rpartition(".")
    if section:
        known = section in recipe_schema()["properties"] and key in section_schema(section)
        return name if known else foreign_key(key)
    if home := _home(name):
        return f"{home}.{name}"
    return foreign_key(name) or (name if name in recipe_schema()["properties"] else None)


def reserved_reason(name: str) -> str | None:
    """Return why a recipe does not set an upstream key, or what to do instead; None for any other name."""
    return next((keys[name] for keys in RESERVED.values() if name in keys), None)


def _home(name: str) -> str | None:
    """Return the first section that has a key; None if no section has it."""
    return next((section for section in recipe_schema()["properties"] if name in section_schema(section)), None)


def _unknown_section(name: str) -> str:
    if home := _home(name):
        return f"{name} is at the top level; it belongs under {home}:"
    if found := foreign_key(name):
        return f"{name} is not a section of a recipe; write {found}"
    if reason := reserved_reason(name):
        return f"{name} is not set in a recipe: {reason}"
    return f"{name} is not a section of a recipe{_suggest(name, recipe_schema()['properties']) or LISTED}"


def _key_problem(section: str, key: str) -> str:
    if key in RENAMED.get(section, {}):
        return f"{section}.{key} is called {RENAMED[section][key]}"
    if key in RESERVED.get(section, {}):
        return f"{section}.{key} is not set in a recipe: {RESERVED[section][key]}"
    if found := foreign_key(key):
        return f"{section}.{key} is called {found}"
    if reason := reserved_reason(key):
        return f"{section}.{key} is not set in a recipe: {reason}"
    owner = f"key of {UPSTREAM[section]}" if section in UPSTREAM else "key of this section"
    known = section_schema(section)
    suggestion = _suggest(key, known)
    if not suggestion:
        homes = [
            other for other in UPSTREAM | {"model": "", "data": "", "evaluation": ""} if key in section_schema(other)
        ]
        suggestion = f"; it belongs under {homes[0]}:" if homes else LISTED
    return f"{section}.{key} is not a {owner}{suggestion}"


LISTED = "; recipes/recipe.schema.json lists them"


def _suggest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


@cache
def _validator() -> Any:
    """Return a validator that does not accept 8.0 as an integer: neither pydantic nor a trainer does."""
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return validators.extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]


def _value_problem(value: Any, schema: dict[str, Any], name: str) -> str | None:
    if isinstance(value, str) and (reason := REFUSED_VALUES.get(name, {}).get(value)):
        return f"{name} is not {value} in a recipe: {reason}"
    error = next(iter(_validator()(schema_of_value(schema)).iter_errors(value)), None)
    if error is None:
        return None
    if error.validator in {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "minLength"}:
        return f"{name}: {error.message}"
    options = [option for option in schema.get("enum", ()) if isinstance(option, str)]
    if len(options) > 8:
        return f"{name} cannot be {_show(value)}{_suggest(str(value), options) or LISTED}"
    return f"{name} must be {describe(schema)}, not {_show(value)}{_hint(value, schema)}"


def schema_of_value(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section without its keys, which are checked one by one for better messages."""
    return {key: part for key, part in schema.items() if key not in {"properties", "additionalProperties", "required"}}


def describe(schema: dict[str, Any]) -> str:
    """Return in words what a value may be: `a number or null`, `one of linear, cosine`."""
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
        "array": "a list",
        "object": "a mapping",
    }
    if "enum" in schema:
        shown = [option if isinstance(option, str) and option else json.dumps(option) for option in schema["enum"]]
        return ("one of " if len(shown) > 1 else "") + ", ".join(shown)
    if "anyOf" in schema:
        parts = [describe(part) for part in schema["anyOf"]]
        return " or ".join(dict.fromkeys(parts))
    if "properties" in schema.get("items", {}):
        return f"a list of mappings with the keys {', '.join(schema['items']['properties'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"a mapping to {describe(schema['additionalProperties'])}"
    if "properties" in schema:
        return f"a mapping with some of the keys {', '.join(schema['properties'])}"
    if "pattern" in schema:
        return str(schema.get("description", "text"))
    limits = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "up to",
        "exclusiveMaximum": "below",
    }
    parts = [f"{phrase} {schema[limit]}" for limit, phrase in limits.items() if limit in schema]
    return " ".join([words.get(schema.get("type", ""), "something else"), " and ".join(parts)]).strip()


def _show(value: Any) -> str:
    kinds = {
        str: "the text ",
        bool: "",
        int: "the number ",
        float: "the number ",
        list: "the list ",
        dict: "the mapping ",
    }
    text = json.dumps(value, ensure_ascii=False)
    return kinds.get(type(value), "") + cut(text)


def _hint(value: Any, schema: dict[str, Any]) -> str:
    types = {part.get("type") for part in (schema, *schema.get("anyOf", ()))}
    truth = "boolean" in types or any(option is True for option in schema.get("enum", ()))
    if isinstance(value, str) and truth and value.lower() in {"yes", "no", "on", "off", "true", "false"}:
        return f"; write {'true' if value.lower() in {'yes', 'on', 'true'} else 'false'}"
    if isinstance(value, str) and types & {"number", "integer"}:
        try:
            return "; remove the quotes" if math.isfinite(float(value)) else ""
        except ValueError:
            return ""
    return ""
