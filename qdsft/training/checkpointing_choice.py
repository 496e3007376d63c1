"""Choose how many layers to recompute in the backward pass, for recipes that leave the choice open (auto)."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]
import torch
from transformers import PretrainedConfig

from qdsft.errors import UserError
from qdsft.launch import uses_deepspeed, uses_fsdp, world_size
from qdsft.model.device import Machine
from qdsft.model.loading import load_config
from qdsft.planning.cards import Target
from qdsft.planning.constants import CONTEXT
from qdsft.planning.fitting import Fitting, Setup
from qdsft.planning.peak import GIB
from qdsft.planning.way import Way
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import is_custom_loss
from qdsft.recipe.sections import AUTO
from qdsft.training.build import CheckpointingChoice
from qdsft.training.memory_trace.tracer import StepTracer


def choose_checkpointing(
    recipe: Recipe, machine: Machine, longest: int, config: PretrainedConfig | None = None
) -> CheckpointingChoice | None:
    """Return the least checkpointing that fits into free memory for rows of `longest` tokens; None unless it is "auto".

    `config` avoids reading config.json again. Checkpoints every layer where the planner cannot trace the memory.
    """
    if recipe.training_value("activation_checkpointing") != AUTO:
        return None
    memory = free_memory(machine)
    if is_custom_loss(recipe):
        return _every_layer("the memory of a custom loss is not traced")
    if memory is None:
        return _every_layer("free memory is unknown on this device")
    if uses_deepspeed() or uses_fsdp():
        return _every_layer("the model is sharded")
    fitting = Fitting(StepTracer(config or load_config(recipe), machine), Target(memory, world_size()), None)
    try:
        setup = fitting.least_recomputation(recipe, run_rows(recipe, longest))
    except UserError as error:
        return _every_layer(f"not traced: {error}")
    peak = fitting.peak(recipe, setup).total
    return CheckpointingChoice(
        setup.way.checkpointing,
        setup.way.every_n_layers,
        f"activation checkpointing: {setup.way.describe()} "
        f"(traced peak {peak / GIB:.1f} GiB, {memory / GIB:.1f} GiB free)",
    )


def free_memory(machine: Machine) -> int | None:
    """Return the bytes this process may use, its CUDA context or interpreter included; None if unknown."""
    if machine.device_type == "cuda":
        return int(torch.cuda.mem_get_info()[0]) + CONTEXT
    if machine.device_type == "cpu":
        return int(psutil.virtual_memory().available) // world_size()
    return None


def run_rows(recipe: Recipe, longest: int) -> Setup:
    """Return the rows of a micro-batch of a run whose longest row has `longest` tokens; every layer is recomputed."""
    length = (recipe.max_length or longest) if recipe.packing else longest
    rows = recipe.training_value("per_device_train_batch_size")
    return Setup(rows, length, Way(True), adaptive=True)


def _every_layer(why: str) -> CheckpointingChoice:
    return CheckpointingChoice(True, 1, f"activation checkpointing: every layer is recomputed ({why})")
