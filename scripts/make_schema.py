"""Regenerate recipes/recipe.schema.json from the installed trl, peft and transformers.

python scripts/make_schema.py            write the file
python scripts/make_schema.py --check    exit 1 if the committed file differs
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

from qdsft.recipe import sections
from qdsft.recipe.custom_loss import PATTERN
from qdsft.recipe.upstream_keys import RENAMED, RESERVED

PATH = Path(__file__).parent.parent / "recipes" / "recipe.schema.json"
ORDER = ["", "boolean", "integer", "number", "string", "array", "object", "null"]
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}

NARROWED: dict[str, dict[str, Any]] = {
    # "wrapped" splits rows and lets samples attend to each other.
    "training.packing_strategy": {"enum": ["bfd", "bfd_split"], "default": "bfd"},
    "training.completion_only_loss": {"enum": [True], "default": True},
    # "auto" is qdsft's; TRL's default is true, under an older name.
    "training.activation_checkpointing": {"enum": ["auto", True, False], "default": "auto"},
    "training.report_to": {"default": "tensorboard"},
    "training.save_total_limit": {"default": 2},
    "training.output_dir": {"description": "The run directory; default outputs/<recipe folder>-<recipe file>."},
    "quantization.bnb_4bit_quant_type": {"enum": ["nf4", "fp4"], "default": "fp4"},
    "quantization.bnb_4bit_compute_dtype": {"enum": ["bfloat16", "float16", "float32"], "default": "float32"},
    "quantization.bnb_4bit_quant_storage": {"enum": ["uint8", "bfloat16", "float16", "float32"], "default": "uint8"},
    "quantization.llm_int8_skip_modules": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
}
OWN_TRAINING = {
    "global_batch_size": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
        "default": None,
        "description": "Rows (packed rows, with packing) per optimizer step over all devices; the number of "
        "accumulation steps follows from it. null: per_device_train_batch_size times the number of devices.",
    }
}
POSITIVE = {"per_device_train_batch_size", "per_device_eval_batch_size", "max_length", "r"}


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type annotation; {} (anything) if JSON Schema cannot express it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        # transformers annotates options that it parses from text as `SomeEnum | str`.
        if any(isinstance(part, type) and issubclass(part, enum.Enum) for part in arguments):
            arguments = tuple(part for part in arguments if part is not str)
        # typing caches unions, so their order depends on earlier imports.
        parts = sorted((schema_of(part) for part in arguments), key=lambda part: ORDER.index(part.get("type", "")))
        return parts[0] if len(parts) == 1 else {"anyOf": parts}
    if (origin or hint) in (list, tuple):
        return {"type": "array"}
    if (origin or hint) is dict or dataclasses.is_dataclass(hint):
        return {"type": "object"}
    return {}


def dataclass_section(cls: type, section: str) -> dict[str, Any]:
    """Return key -> schema, for every key of an upstream dataclass that a recipe may set."""
    hints = typing.get_type_hints(cls)
    result = {}
    for field in dataclasses.fields(cls):
        if field.init and field.name not in RESERVED[section] and field.name not in RENAMED[section]:
            help_text = field.metadata.get("help")
            result[field.name] = schema_of(hints[field.name]) | default_of(field.default)
            if help_text:
                result[field.name]["description"] = " ".join(help_text.split())
    return result


def default_of(value: Any) -> dict[str, Any]:
    """Return {"default": value} if JSON can hold the value, else {}."""
    value = value.value if isinstance(value, enum.Enum) else value
    return {"default": value} if value is None or isinstance(value, bool | int | float | str | list) else {}


def quantization_section() -> dict[str, Any]:
    """Return key -> schema of BitsAndBytesConfig, from its signature: it is not a dataclass."""
    from transformers import BitsAndBytesConfig

    result = {}
    for name, parameter in list(inspect.signature(BitsAndBytesConfig.__init__).parameters.items())[1:]:
        if parameter.kind is not parameter.VAR_KEYWORD:
            default = parameter.default
            result[name] = ({} if default is None else schema_of(type(default))) | default_of(default)
    return result


def own_section(cls: type[sections.Section]) -> dict[str, Any]:
    """Return the schema of one of qdsft's sections, without pydantic's titles."""
    schema = cls.model_json_schema()
    for part in schema["properties"].values():
        part.pop("title", None)
        for option in part.get("anyOf", ()):
            option.pop("title", None)
    return {key: schema[key] for key in ("type", "description", "properties")} | {"additionalProperties": False}


def loss_types(config: type) -> dict[str, Any]:
    """The losses that TRL lists, or a function in a file of one's own."""
    field = next(field for field in dataclasses.fields(config) if field.name == "loss_type")
    own = {"type": "string", "pattern": PATTERN, "description": "path/to/file.py:function"}
    trl: dict[str, Any] = {"type": "string", "enum": field.metadata["choices"]}
    return {"anyOf": [trl, own], "default": field.default, "description": field.metadata["help"]}


def build() -> dict[str, Any]:
    """Return the whole schema."""
    from peft import LoraConfig
    from trl import SFTConfig

    upstream = {
        "quantization": quantization_section(),
        "lora": dataclass_section(LoraConfig, "lora"),
        "training": dataclass_section(SFTConfig, "training") | OWN_TRAINING,
    }
    for name, change in {**NARROWED, "training.loss_type": loss_types(SFTConfig)}.items():
        section, key = name.split(".")
        kept = {} if {"enum", "anyOf"} & change.keys() else upstream[section][key]
        upstream[section][key] = kept | change
    for keys in upstream.values():
        for key in POSITIVE & keys.keys():
            for part in (keys[key], *keys[key].get("anyOf", ())):
                if part.get("type") == "integer":
                    part["minimum"] = 1
    properties: dict[str, Any] = {
        "model": own_section(sections.Model),
        "quantization": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "lora": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "data": own_section(sections.Data),
        "prompt": own_section(sections.Prompt),
        "training": {"type": "object"},
        "evaluation": own_section(sections.Evaluation),
        "publish": own_section(sections.Publish),
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 42},
        "preflight": {"type": "boolean", "default": True},
    }
    for name, keys in upstream.items():
        properties[name] |= {"properties": keys, "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qdsft recipe",
        "type": "object",
        "properties": properties,
        "required": ["model", "data"],
        "additionalProperties": False,
    }


def main() -> int:
    text = json.dumps(build(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if "--check" in sys.argv[1:]:
        same = PATH.is_file() and PATH.read_text(encoding="utf-8") == text
        print(f"{PATH.name} is {'up to date' if same else 'out of date: run python scripts/make_schema.py'}")
        return 0 if same else 1
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
