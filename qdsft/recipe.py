"""A recipe: one YAML file that describes one training run, with the origin of every value."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qdsft import strict_yaml
from qdsft.errors import UserError
from qdsft.launch import world_size
from qdsft.schema import find_problem, recipe_schema, section_schema, shipped_recipes, upstream_default
from qdsft.sections import Data, Evaluation, Model, Prompt, Publish, Section

COMMAND_LINE = "command line"
DEFAULT = "default"


class Recipe(Section):
    """A resolved recipe. `training`, `lora` and `quantization` keep the keys of trl, peft and transformers."""

    path: Path
    origins: dict[str, str]
    """`section.key` -> `file:line` or `command line`; a key that is not listed has its default."""
    model: Model
    quantization: dict[str, Any] | None = None
    lora: dict[str, Any] | None = None
    data: Data
    prompt: Prompt = Prompt()
    training: dict[str, Any] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    publish: Publish = Publish()
    seed: int = 42
    preflight: bool = True
    """Whether training begins with a memory probe; the contracts are checked in any case."""

    def origin(self, key: str) -> str:
        """Where `section.key` was set."""
        return self.origins.get(key, DEFAULT)

    def training_value(self, key: str) -> Any:
        """A key of the training section, or the documented default."""
        return self.training.get(key, upstream_default("training", key))

    @property
    def name(self) -> str:
        """`<folder>-<file>`, which is `<model>-<method>` for the shipped recipes."""
        return f"{self.path.resolve().parent.name}-{self.path.stem}"

    @property
    def method(self) -> Literal["full", "lora", "qlora"]:
        """What is trained: all weights, adapters, or adapters on quantized weights."""
        if self.lora is None:
            return "full"
        return "qlora" if self.quantization else "lora"

    @property
    def run_dir(self) -> Path:
        """Where the run is written: training.output_dir, else outputs/<name>."""
        return Path(self.training.get("output_dir") or Path("outputs") / self.name)

    @property
    def max_length(self) -> int | None:
        """Longest row in tokens; None for no limit."""
        length: int | None = self.training_value("max_length")
        return length

    @property
    def packing(self) -> bool:
        """Whether several rows share one row of max_length tokens."""
        return bool(self.training_value("packing"))

    def chat_template_path(self) -> Path | None:
        """The Jinja file of model.chat_template, looked for beside the recipe, then from here."""
        if self.model.chat_template is None:
            return None
        places = [self.path.parent / self.model.chat_template, Path(self.model.chat_template)]
        for place in places:
            if place.is_file():
                return place
        raise UserError(
            f"{self.where('model.chat_template')}: no template {self.model.chat_template} beside the recipe "
            f"({places[0]}) or at {places[1].resolve()}; correct the name"
        )

    def check_local_model(self) -> None:
        """Raise UserError if model.name_or_path is written as a local folder and there is none."""
        name = self.model.name_or_path
        local = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
        if local and not (Path(name) / "config.json").is_file():
            raise UserError(
                f"{self.where('model.name_or_path')}: model.name_or_path: {name} is no folder with a model "
                "(config.json is missing); correct the path"
            )

    def accumulation_steps(self, world_size: int) -> int:
        """Micro-batches per optimizer step, so that global_batch_size holds on `world_size` devices.

        Raises UserError where the division leaves a remainder.
        """
        micro = self.training_value("per_device_train_batch_size") * world_size
        total = self.training.get("global_batch_size") or micro
        if total % micro:
            raise UserError(
                f"{self.where('training.global_batch_size')}: training.global_batch_size {total} is no multiple of "
                f"per_device_train_batch_size x devices = {micro // world_size} x {world_size}; "
                f"{max(round(total / micro), 1) * micro} is the nearest that is"
            )
        return int(total // micro)

    def resume_command(self) -> str:
        """What goes on with a run of this recipe, its overrides included; `...` stands for what chose the processes."""
        overrides = [
            f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for key, value, origin in self.rows()
            if origin == COMMAND_LINE
        ]
        words = ["qdsft", "train"] if world_size() == 1 else ["accelerate", "launch", "...", "scripts/run_sft.py"]
        return shlex.join([*words, str(self.path), *overrides, "--resume"])

    def where(self, key: str) -> str:
        """`file:line` of a key, for error messages; the file alone where the key is not in it."""
        return self.origins.get(key, str(self.path))

    def resolved(self) -> dict[str, Any]:
        """Everything but the path and the origins, as JSON can hold it."""
        return self.model_dump(mode="json", exclude={"path", "origins"})

    def rows(self) -> list[tuple[str, Any, str]]:
        """(key, value, origin) of every own key and of every upstream key that is set here."""
        result = []
        for section, content in self.resolved().items():
            for key, value in content.items() if isinstance(content, dict) else [("", content)]:
                name = f"{section}.{key}" if key else section
                result.append((name, value, self.origin(name)))
        return result


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `section.key=value` overrides.

    `path` is a file or the name of a shipped recipe, as `find_recipe` has it. Raises UserError, naming file and line
    (or the command line), for a missing file, broken YAML, an unknown, duplicate, renamed or mistyped key, and for
    values that contradict each other.
    """
    path = find_recipe(path)
    data, lines = strict_yaml.load(read_text(path), str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a YAML mapping with the sections model, data, training, ...")
    origins = {".".join(key): f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        _override(data, origins, override)
    return build_recipe(path, data, origins)


def find_recipe(name: str | Path) -> Path:
    """The file of that name, else the shipped recipe `<folder>/<method>`, with or without recipes/ and .yaml.

    Where there is neither, `name` as it is.
    """
    shipped = re.fullmatch(r"(?:recipes[/\\])?(\w+)[/\\](\w+)(?:\.yaml)?", str(name))
    if shipped and not os.path.isfile(name):
        path = shipped_recipes() / shipped[1] / f"{shipped[2]}.yaml"
        if path.is_file():
            return path
    return Path(name)


def build_recipe(path: Path, data: Mapping[str, Any], origins: dict[str, str]) -> Recipe:
    """Validate parsed values and make them a Recipe; raises UserError as load_recipe does."""
    if problem := find_problem(data):
        key, message = problem
        raise UserError(f"{origins.get('.'.join(key), path)}: {message}")
    if "train" not in (data.get("data") or {}):
        raise UserError(f"{path}: data.train is missing; give a data file or a Hub dataset with data.train=FILE")
    recipe = Recipe.model_validate({**data, "path": path, "origins": origins})
    _check_combinations(recipe)
    return recipe


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises UserError where it cannot be read."""
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
        raise UserError(f"{COMMAND_LINE}: {override!r} is no override; write section.key=value")
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
    """Text where the key takes text alone, so that `prompt.user=Sum up: {{ text }}` needs no quotes; else YAML."""
    section, _, key = name.partition(".")
    schema = section_schema(section).get(key, {}) if section in recipe_schema()["properties"] else {}
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])} - {"null"}
    if kinds == {"string"} and text != "null" and text[:1] not in {"'", '"'}:
        return text, {}
    return strict_yaml.load(text, f"{COMMAND_LINE}: {name}")


def _check_combinations(recipe: Recipe) -> None:
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
    if _targets_lm_head(recipe):
        raise UserError(
            f"{recipe.where('lora.target_modules')}: an adapter on lm_head is never trained by TRL's fused loss; "
            "remove it from lora.target_modules"
        )
    for key in ("learning_rate", "num_train_epochs"):
        if (value := recipe.training_value(key)) <= 0:
            raise UserError(f"{recipe.where(f'training.{key}')}: training.{key} must be above 0, not {value}")


def _targets_lm_head(recipe: Recipe) -> bool:
    """Whether an adapter would sit on lm_head, by PEFT's rule: a list of names, or one pattern for all of a name."""
    targets = (recipe.lora or {}).get("target_modules") or []
    if isinstance(targets, list):
        return "lm_head" in targets
    try:
        return re.fullmatch(targets, "lm_head") is not None
    except re.error as error:
        where = recipe.where("lora.target_modules")
        raise UserError(f"{where}: lora.target_modules is no regular expression: {error}; correct it") from error
