"""Regenerate recipes/recipe.schema.json from the installed trl, peft and transformers.

python scripts/make_schema.py            write the file
python scripts/make_schema.py --check    exit 1 if the committed file differs; with other releases than the tested ones,
                                         only if a key differs
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from qdsft.recipe import sections
from qdsft.recipe.custom_loss import PATTERN
from qdsft.recipe.upstream_keys import RENAMED, RESERVED
from qdsft.tested_versions import deviations
from schema_changes import NARROWED, OWN_TRAINING, RANGES

PATH = Path(__file__).parent.parent / "recipes" / "recipe.schema.json"
ORDER = ["", "boolean", "integer", "number", "string", "array", "object", "null"]
UPSTREAM_PACKAGES = ("trl", "peft", "transformers")
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}

ARGUMENTS_OF_A_SCHEDULE = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
"""Arguments that the trainer gives to a learning rate schedule itself."""


def schema_of(hint: Any, choices: Collection[str] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a type annotation whose text is one of `choices`; {} if it has none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is str and choices:
        return {"enum": list(choices)}
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
        # A file writes a dataclass as a mapping.
        if any(dataclasses.is_dataclass(part) for part in arguments):
            arguments = tuple(part for part in arguments if part is not dict)
        parts = sorted(
            (schema_of(part, choices) for part in arguments), key=lambda part: ORDER.index(part.get("type", ""))
        )
        return parts[0] if len(parts) == 1 else {"anyOf": parts}
    if origin is list and arguments[0] in PLAIN:
        return {"type": "array", "items": schema_of(arguments[0])}
    if (origin or hint) in (list, tuple):
        return {"type": "array"}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        keys = {field.name: schema_of(hints[field.name]) for field in dataclasses.fields(hint)}
        return {"type": "object", "properties": keys, "additionalProperties": False}
    if (origin or hint) is dict:
        return {"type": "object"}
    return {}


def dataclass_section(cls: type, section: str) -> dict[str, Any]:
    """Return key -> schema, for every key of an upstream dataclass that a recipe may set."""
    hints = typing.get_type_hints(cls)
    result = {}
    for field in dataclasses.fields(cls):
        if field.init and field.name not in RESERVED[section] and field.name not in RENAMED[section]:
            help_text = field.metadata.get("help")
            result[field.name] = schema_of(hints[field.name], field.metadata.get("choices")) | default_of(field.default)
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
        if parameter.kind is not parameter.VAR_KEYWORD and name not in RESERVED["quantization"]:
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
            if "$ref" in option.get("items", {}):  # a definition of this section, which the recipe's schema lacks
                option["items"] = own_section(getattr(sections, option["items"]["$ref"].rpartition("/")[2]))
    kept = {key: schema[key] for key in ("type", "description", "properties")} | {"additionalProperties": False}
    return kept | ({"required": schema["required"]} if cls is sections.TrainSource else {})


def loss_types(config: type) -> dict[str, Any]:
    """Return the losses that TRL lists, or a function in a Python file."""
    field = next(field for field in dataclasses.fields(config) if field.name == "loss_type")
    own = {"type": "string", "pattern": PATTERN, "description": "path/to/file.py:function"}
    trl: dict[str, Any] = {"type": "string", "enum": field.metadata["choices"]}
    return {"anyOf": [trl, own], "default": field.default, "description": field.metadata["help"]}


def from_libraries() -> dict[str, dict[str, Any]]:
    """Return the values of keys that upstream types as text and reads as a name that another module defines."""
    from accelerate.utils import DynamoBackend
    from torch._inductor import list_mode_options
    from transformers.integrations import INTEGRATION_TO_CALLBACK

    trackers = {"enum": [*INTEGRATION_TO_CALLBACK, "all", "none"]}
    backends = [backend.value.lower() for backend in DynamoBackend if backend is not DynamoBackend.NO]
    return {
        "training.report_to": {
            "anyOf": [trackers, {"type": "array", "items": trackers}, {"type": "null"}],
            "default": "tensorboard",
        },
        "training.torch_compile_backend": {"anyOf": [{"enum": backends}, {"type": "null"}]},
        "training.torch_compile_mode": {
            "anyOf": [{"enum": list(list_mode_options())}, {"type": "null"}],
            "default": None,
        },
        "training.optim_args": {"x-read-by": optimizer_arguments()},
        "training.lr_scheduler_kwargs": {"x-read-by": schedule_arguments()},
    }


def optimizer_arguments() -> dict[str, list[str]]:
    """Return the names in optim_args that each optimizer reads, by the source of transformers."""
    from transformers.trainer_optimizer import _BITSANDBYTES_OPTIMIZERS, _OPTIMIZER_HANDLERS

    found = {}
    for name, handler in _OPTIMIZER_HANDLERS.items():
        source = inspect.getsource(handler)
        keys = re.findall(r'optim_args(?:\.get\(|\.pop\(|\[)"(\w+)"', source)
        keys += [key for group in re.findall(r"for key in \(([^)]*)\)", source) for key in re.findall(r"\w+", group)]
        # One function serves the optimizers of bitsandbytes, and only its AdEMAMix converts what it reads to numbers.
        reads = name not in _BITSANDBYTES_OPTIMIZERS or "ademamix" in name
        # weight_decay is overwritten by the key of that name in every group of parameters.
        found[str(name.value)] = [key for key in dict.fromkeys(keys) if reads and key != "weight_decay"]
    return found


def schedule_arguments() -> dict[str, list[str]]:
    """Return the names in lr_scheduler_kwargs that each learning rate schedule takes."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR

    classes = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}
    return {
        name.value: [
            key
            for key in inspect.signature(classes.get(name.value, function)).parameters
            if key not in ARGUMENTS_OF_A_SCHEDULE
        ]
        for name, function in TYPE_TO_SCHEDULER_FUNCTION.items()
    }


def build() -> dict[str, Any]:
    """Return the whole schema."""
    from peft import LoraConfig
    from trl import SFTConfig

    upstream = {
        "quantization": quantization_section(),
        "lora": dataclass_section(LoraConfig, "lora"),
        "training": dataclass_section(SFTConfig, "training") | OWN_TRAINING,
    }
    for name, change in {**NARROWED, **from_libraries(), "training.loss_type": loss_types(SFTConfig)}.items():
        section, key = name.split(".")
        replaced = {"type", "enum", "anyOf"} if {"enum", "anyOf"} & change.keys() else set()
        kept = {part: value for part, value in upstream[section][key].items() if part not in replaced}
        upstream[section][key] = kept | change
    for keys in upstream.values():
        for key in RANGES.keys() & keys.keys():
            for part in (keys[key], *keys[key].get("anyOf", ())):
                if part.get("type") in {"integer", "number"}:
                    part |= RANGES[key]
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


def changed_keys(committed: dict[str, Any], built: dict[str, Any]) -> list[str]:
    """Return the sections and keys that differ between two schemas in more than their descriptions."""
    before, after = _plain_keys(committed), _plain_keys(built)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _plain_keys(schema: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for section, content in schema.get("properties", {}).items():
        found[section] = _without_descriptions({key: part for key, part in content.items() if key != "properties"})
        for key, part in content.get("properties", {}).items():
            found[f"{section}.{key}"] = _without_descriptions(part)
    return found


def _without_descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_descriptions(part) for key, part in value.items() if key != "description"}
    return [_without_descriptions(part) for part in value] if isinstance(value, list) else value


def check(text: str) -> int:
    """Compare the committed schema with the built one, and return the exit status."""
    committed = PATH.read_text(encoding="utf-8") if PATH.is_file() else "{}"
    changed = changed_keys(json.loads(committed), json.loads(text))
    releases = [str(found) for found in deviations() if found.name in UPSTREAM_PACKAGES]
    if committed == text:
        print(f"{PATH.name} is up to date")
    elif releases and not changed:
        print(f"{PATH.name} has the keys of the installed {', '.join(releases)}; only descriptions differ")
    else:
        print(f"{PATH.name} is out of date ({', '.join(changed) or 'descriptions'}): run python scripts/make_schema.py")
        return 1
    return 0


def main() -> int:
    text = json.dumps(build(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if "--check" in sys.argv[1:]:
        return check(text)
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
