"""A recipe: one YAML file that describes one training run, with the origin of every value."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qdsft.errors import UserError
from qdsft.launch import world_size
from qdsft.recipe.schema import upstream_default
from qdsft.recipe.sections import Data, Evaluation, Model, Prompt, Publish, Section

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
