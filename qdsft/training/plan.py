"""Plan a recipe by traces of the step that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from qdsft.errors import UserError, reason
from qdsft.model.device import Machine
from qdsft.planning.cards import Target, find_card
from qdsft.planning.plan import Plan, make_plan
from qdsft.recipe import Recipe, RecipeSource
from qdsft.training.memory_trace.tracer import CANNOT, StepTracer

MOST_LAYERS = 10_000
"""A larger num_hidden_layers is a fault of the file, and building so many layers would not end."""


def plan(
    recipe: RecipeSource,
    overrides: Sequence[str] = (),
    *,
    gpu: str | None = None,
    gpu_memory: float | None = None,
    gpus: int = 1,
    zero: int = 0,
    fsdp: bool = False,
    offload: bool = False,
    full: bool = False,
) -> Plan:
    """Plan a recipe on `gpus` GPUs, by name ("RTX 4060") or by the memory of one in GiB (default 8).

    `zero` is DeepSpeed's ZeRO stage, `fsdp` shards with FSDP2, and `offload` keeps what is sharded in the machine's
    memory. `full` traces all layers of the model instead of a few. Raises UserError as make_plan does, and for a GPU
    that is not listed.
    """
    if gpu is not None and gpu_memory:
        raise UserError("--gpu and --gpu-memory both set the memory of a GPU; give one of them")
    name, memory = find_card(gpu) if gpu is not None else (None, int((gpu_memory or 8.0) * 2**30))
    return plan_on(recipe, overrides, Target(memory, gpus, zero, name, fsdp, offload), full=full)


def plan_on(recipe: RecipeSource, overrides: Sequence[str], target: Target, *, full: bool = False) -> Plan:
    """Plan a recipe on the GPUs of a target."""

    def make(loaded: Recipe, values: dict[str, Any], where: str) -> StepTracer:
        machine = Machine("cuda", target.name or "a GPU", torch.bfloat16 if target.bfloat16 else torch.float16)
        config = make_config(loaded, values, where)
        return StepTracer(config, machine, sharded=bool(target.zero or target.fsdp), full=full)

    return make_plan(recipe, overrides, target, make)


def make_config(recipe: Recipe, values: dict[str, Any], where: str) -> PretrainedConfig:
    """Return the config of the fields of a config.json. Raises UserError for an architecture that nothing knows."""
    try:
        if recipe.model.trust_remote_code and "auto_map" in values:
            config: PretrainedConfig = AutoConfig.from_pretrained(recipe.model.name_or_path, trust_remote_code=True)
        else:
            config = AutoConfig.for_model(**values)
    except (*CANNOT, OSError) as error:
        why = reason(error)
        raise UserError(f"{where}: transformers cannot make a model of it: {why}; correct the file") from error
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(layers, int) or not 0 < layers < MOST_LAYERS:
        raise UserError(f"{where}: num_hidden_layers should be a whole number up to {MOST_LAYERS}; correct the file")
    return config
