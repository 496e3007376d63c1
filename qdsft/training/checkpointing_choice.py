"""Choose how many layers to recompute in the backward pass, for recipes that leave the choice open (auto)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch

from qdsft.errors import UserError
from qdsft.launch import uses_deepspeed, world_size
from qdsft.model.device import Machine
from qdsft.planning.memory.activation_checkpointing import describe_recomputation, least_recomputation
from qdsft.planning.memory.config_file import read_config
from qdsft.planning.memory.setup import Setup, read_setup
from qdsft.planning.memory.shapes import read_shapes
from qdsft.planning.memory.training_memory import CONTEXT, GIB, training_peak
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import is_custom_loss
from qdsft.recipe.sections import AUTO


@dataclass(frozen=True)
class CheckpointingChoice:
    """Whether and how often to checkpoint the activations of a layer."""

    checkpointing: bool
    every_n_layers: int
    line: str
    """The line that reports the choice."""

    def to_json(self) -> dict[str, Any]:
        """Return the choice as run.json holds it."""
        return {"checkpointing": self.checkpointing, "every_n_layers": self.every_n_layers, "said": self.line}


def choose_checkpointing(recipe: Recipe, machine: Machine, longest: int) -> CheckpointingChoice | None:
    """Return the least checkpointing that fits into free memory for rows of `longest` tokens; None unless it is "auto".

    Checkpoints every layer where the planner cannot model the memory.
    """
    if recipe.training_value("activation_checkpointing") != AUTO:
        return None
    memory = free_memory(machine)
    if is_custom_loss(recipe):
        return _every_layer("the memory of a custom loss is not modelled")
    if memory is None:
        return _every_layer("free memory is unknown on this device")
    if uses_deepspeed():
        return _every_layer("DeepSpeed shards the model")
    try:
        config, where = read_config(recipe)
        shapes = read_shapes(config, where)
        setup = least_recomputation(shapes, _setup(recipe, machine, longest), memory)
    except UserError as error:
        return _every_layer(f"not modelled: {error}")
    peak = training_peak(shapes, setup).total
    return CheckpointingChoice(
        setup.checkpointing,
        setup.every_n_layers,
        f"activation checkpointing: {describe_recomputation(setup)} "
        f"(modelled peak {peak / GIB:.1f} GiB, {memory / GIB:.1f} GiB free)",
    )


def free_memory(machine: Machine) -> int | None:
    """Return the bytes this process may use, its CUDA context or interpreter included; None if unknown."""
    if machine.device_type == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + CONTEXT
    if machine.device_type == "cpu":
        return int(psutil.virtual_memory().available) // world_size()
    return None


def _every_layer(why: str) -> CheckpointingChoice:
    return CheckpointingChoice(True, 1, f"activation checkpointing: every layer is recomputed ({why})")


def _setup(recipe: Recipe, machine: Machine, longest: int) -> Setup:
    length = (recipe.max_length or longest) if recipe.packing else longest
    if machine.device_type == "cuda":
        bfloat16 = machine.dtype == torch.bfloat16
        return read_setup(recipe, length=length, gpus=world_size(), bfloat16=bfloat16)
    plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": "float32"})})
    return replace(read_setup(plain, length=length, gpus=world_size()), cuda=False)
