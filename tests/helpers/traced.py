"""Traces of small models, which take a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch
from helpers.paths import ROOT
from transformers import AutoConfig

from qdsft.model.device import Machine
from qdsft.planning.peak import Traced
from qdsft.planning.way import Way
from qdsft.recipe import Recipe, load_recipe
from qdsft.training.memory_trace.tracer import StepTracer

CUDA, CPU = Machine("cuda", "a GPU", torch.bfloat16), Machine("cpu", "a CPU", torch.float32)
SMALL = {
    **{"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "vocab_size": 2000, "head_dim": 64},
}
ALL_LINEAR = "lora.target_modules=all-linear"


def recipe_of(method: str = "lora", *overrides: str) -> Recipe:
    """Return a recipe of Mistral's folder with adapters on every linear layer."""
    adapters = [] if method == "full" else [ALL_LINEAR]
    return load_recipe(ROOT / f"recipes/mistral/{method}.yaml", [*adapters, *overrides])


def tracer_of(architecture: str = "mistral", machine: Machine = CUDA, **options: Any) -> StepTracer:
    """Return the tracer of a small model."""
    chosen = {name: options.pop(name) for name in ("full", "sharded") if name in options}
    return StepTracer(AutoConfig.for_model(architecture, **{**SMALL, **options}), machine, **chosen)


TRACERS: dict[str, StepTracer] = {}
"""Tracers keep the models they build and the traces they make, for the tests of a module."""


def trace(method: str = "lora", *overrides: str, way: Way = Way(True), length: int = 128, **options: Any) -> Traced:  # noqa: B008
    """Trace a training step of a small model on one row."""
    tracer = TRACERS.setdefault(repr(sorted(options.items())), tracer_of(**options))
    return tracer.training(recipe_of(method, *overrides), 1, length, way)


def most(traced: Traced, tag: str) -> float:
    """Return the most bytes of a component at any moment."""
    return max(parts.get(tag, 0) for parts in traced.phases.values())
