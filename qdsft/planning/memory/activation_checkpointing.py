"""Choose activation checkpointing: recompute as few layers in the backward pass as memory allows."""

from __future__ import annotations

from dataclasses import replace

from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes
from qdsft.planning.memory.training_memory import training_peak

SPARED = 0.1
"""Share of the memory to keep free, since the memory model and the allocator are not exact."""
EVERY = (4, 3, 2)
"""Recompute one layer in this many, between recomputing no layer and all layers."""


def recompute_all(setup: Setup) -> Setup:
    """Return the set-up that recomputes every layer, which needs the least memory."""
    return replace(setup, checkpointing=True, every_n_layers=1)


def least_recomputation(shapes: Shapes, setup: Setup, memory: int) -> Setup:
    """Return the fastest set-up whose peak leaves SPARED of `memory` bytes free, or one that recomputes all layers."""
    ways = [
        replace(setup, checkpointing=False, every_n_layers=1),
        *(replace(setup, checkpointing=True, every_n_layers=every) for every in EVERY),
    ]
    fitting = (way for way in ways if training_peak(shapes, way).total <= (1 - SPARED) * memory)
    return next(fitting, recompute_all(setup))


def describe_recomputation(setup: Setup) -> str:
    """Return the choice in words."""
    if not setup.checkpointing:
        return "no layer is recomputed"
    if setup.every_n_layers == 1:
        return "every layer is recomputed"
    return f"one layer in {setup.every_n_layers} is recomputed"
