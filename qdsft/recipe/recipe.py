"""The values of a recipe, each with its origin, and what follows from them."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.launch import world_size
from qdsft.recipe.run_folder import expanded
from qdsft.recipe.schema import upstream_default
from qdsft.recipe.sections import Data, Evaluation, Model, Prompt, Publish, Section

COMMAND_LINE = "command line"
DEFAULT = "default"
PYTHON = "Python"
"""Origin of the values of a recipe that was given as a mapping."""
ACCELERATE_OPTION = "QDSFT_ACCELERATE"
"""Environment variable with the value of `qdsft train --accelerate`, which launches the processes that read it."""


class Recipe(Section):
    """A resolved recipe. `training`, `lora` and `quantization` keep the keys of trl, peft and transformers."""

    path: Path
    origins: dict[str, str]
    """`section.key` -> `file:line` or `command line`. A key that is not listed has its default."""
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
    """Whether training begins with a memory probe. All other checks run in any case."""

    def origin(self, key: str) -> str:
        """Return where `section.key` was set, or "default"; for error messages see `where`."""
        return self.origins.get(key, DEFAULT)

    def training_value(self, key: str) -> Any:
        """Return a value of the training section, or the documented default."""
        return self.training.get(key, upstream_default("training", key))

    @property
    def name(self) -> str:
        """`<folder>-<file>`, which is `<model>-<method>` for the shipped recipes."""
        return f"{self.path.resolve().parent.name}-{self.path.stem}"

    @property
    def method(self) -> Literal["full", "lora", "qlora"]:
        """The trained parameters: all weights, adapters, or adapters on quantized weights."""
        if self.lora is None:
            return "full"
        return "qlora" if self.quantization else "lora"

    @property
    def run_dir(self) -> Path:
        """The run directory: training.output_dir with `~` and `${VAR}` expanded, else outputs/<name>."""
        given = self.training.get("output_dir")
        return Path("outputs") / self.name if given is None else expanded(given)

    @property
    def max_length(self) -> int | None:
        """The maximum length of a row in tokens; None for no limit."""
        length: int | None = self.training_value("max_length")
        return length

    @property
    def packing(self) -> bool:
        """Whether several rows share one row of max_length tokens."""
        return bool(self.training_value("packing"))

    @property
    def shares_rows(self) -> bool:
        """Whether samples share a row: packed, or flattened without padding."""
        return self.packing or bool(self.training_value("padding_free"))

    def chat_template_path(self) -> Path | None:
        """Return the Jinja file of model.chat_template: beside the recipe, else relative to the working directory."""
        if self.model.chat_template is None:
            return None
        places = [self.path.parent / self.model.chat_template, Path(self.model.chat_template)]
        for place in places:
            if os.path.isfile(place):  # unlike place.is_file, no error for a loop of links
                return place
        raise UserError(
            f"{self.where('model.chat_template')}: model.chat_template: no {self.model.chat_template} beside the "
            f"recipe ({places[0]}) or at {places[1].absolute()}; correct the name"
        )

    def check_local_model(self) -> None:
        """Raise UserError if model.name_or_path looks like a local folder that does not exist."""
        name = self.model.name_or_path
        local = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
        if local and not (Path(name) / "config.json").is_file():
            raise UserError(
                f"{self.where('model.name_or_path')}: model.name_or_path: {name} is not a folder with a model "
                "(config.json is missing); correct the path"
            )

    def accumulation_steps(self, world_size: int) -> int:
        """Return the micro-batches per optimizer step that make up global_batch_size on `world_size` devices.

        Raises UserError if the division leaves a remainder.
        """
        micro = self.training_value("per_device_train_batch_size") * world_size
        total = self.training.get("global_batch_size") or micro
        if total % micro:
            raise UserError(
                f"{self.where('training.global_batch_size')}: training.global_batch_size {total} is not a multiple of "
                f"per_device_train_batch_size x devices = {micro // world_size} x {world_size}; "
                f"{max(round(total / micro), 1) * micro} is the nearest multiple"
            )
        return int(total // micro)

    def resume_command(self) -> str:
        """Return the command that resumes a run, with its overrides; `...` stands for launcher options."""
        overrides = [
            f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)}"
            for key, value, origin in self.rows()
            if origin == COMMAND_LINE
        ]
        if PYTHON in self.origins.values():
            return "qdsft.train(recipe, resume=True)"
        launched = variable(ACCELERATE_OPTION)
        if launched or world_size() == 1:
            words = ["qdsft", "train"]
        else:
            words = ["accelerate", "launch", "...", "scripts/run_sft.py"]
        options = ["--accelerate", launched] if launched else []
        return shlex.join([*words, str(self.path), *overrides, *options, "--resume"])

    def where(self, key: str) -> str:
        """Return `file:line` of a key for error messages, or the file if the key is not in it."""
        return self.origins.get(key, str(self.path))

    def resolved(self) -> dict[str, Any]:
        """Return all values, without path and origins, for JSON."""
        return self.model_dump(mode="json", exclude={"path", "origins"})

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return (key, value, origin) of every key of qdsft and of every upstream key that is set."""
        result = []
        for section, content in self.resolved().items():
            for key, value in content.items() if isinstance(content, dict) else [("", content)]:
                name = f"{section}.{key}" if key else section
                result.append((name, value, self.origin(name)))
        return result
