"""Whether a run keeps its activations or computes them again, where its recipe leaves that open (auto)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from transformers import TrainingArguments

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.launch import uses_deepspeed, world_size
from qdsft.model.device import Machine
from qdsft.planning.memory.activation_checkpointing import describe_recomputation, least_recomputation
from qdsft.planning.memory.config_file import read_config
from qdsft.planning.memory.setup import Setup, read_setup
from qdsft.planning.memory.shapes import read_shapes
from qdsft.planning.memory.training_memory import CONTEXT, GIB, training_peak
from qdsft.recipe import Recipe
from qdsft.recipe.sections import AUTO


@dataclass(frozen=True)
class Recomputation:
    """What was decided, and why in words."""

    checkpointing: bool
    every_n_layers: int
    said: str

    def apply(self, arguments: TrainingArguments) -> None:
        """Set it, before a trainer is built of the arguments."""
        given = arguments.activation_checkpointing_kwargs
        kwargs: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
        if self.every_n_layers > 1:
            kwargs["every_n_layers"] = self.every_n_layers
        # Each under two names: libraries read the older one still.
        arguments.activation_checkpointing = arguments.gradient_checkpointing = self.checkpointing
        arguments.activation_checkpointing_kwargs = arguments.gradient_checkpointing_kwargs = kwargs or None


def settle_recomputation(
    recipe: Recipe, machine: Machine, longest: int, arguments: TrainingArguments
) -> dict[str, dict[str, Any]]:
    """Decide, say so and set it; returns what run.json keeps of it: nothing where the recipe decides."""
    decision = decide_recomputation(recipe, machine, longest)
    if decision is None:
        return {}
    say(decision.said)
    decision.apply(arguments)
    return {"activation_checkpointing": asdict(decision)}


def decide_recomputation(recipe: Recipe, machine: Machine, longest: int) -> Recomputation | None:
    """The least that fits into free memory by the planner, for rows of up to `longest` tokens; None if the recipe says.

    Where memory cannot be modelled, every layer is computed twice.
    """
    if recipe.training_value("activation_checkpointing") != AUTO:
        return None
    memory = free_memory(machine)
    if memory is None or uses_deepspeed():
        why = "free memory is not known here" if memory is None else "DeepSpeed shards the model"
        return Recomputation(True, 1, f"recomputation: every layer is computed twice ({why})")
    try:
        config, where = read_config(recipe)
        shapes = read_shapes(config, where)
        setup = least_recomputation(shapes, _setup(recipe, machine, longest), memory)
    except UserError as error:
        return Recomputation(True, 1, f"recomputation: every layer is computed twice (not modelled: {error})")
    peak = training_peak(shapes, setup).total
    return Recomputation(
        setup.checkpointing,
        setup.every_n_layers,
        f"recomputation: {describe_recomputation(setup)} (modelled peak {peak / GIB:.1f} GiB, {memory / GIB:.1f} free)",
    )


def free_memory(machine: Machine) -> int | None:
    """Bytes that a process of this run may still take, its CUDA context or interpreter counted in; None if unknown."""
    if machine.device == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + CONTEXT
    if machine.device == "cpu":
        return int(psutil.virtual_memory().available) // world_size()
    return None


def _setup(recipe: Recipe, machine: Machine, longest: int) -> Setup:
    length = (recipe.max_length or longest) if recipe.packing else longest
    if machine.device == "cuda":
        bfloat16 = machine.dtype == torch.bfloat16
        return read_setup(recipe, length=length, gpus=world_size(), bfloat16=bfloat16)
    plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": "float32"})})
    return replace(read_setup(plain, length=length, gpus=world_size()), cuda=False)
