"""How much of the forward pass is computed again in the backward pass: as little as memory allows."""

from __future__ import annotations

from dataclasses import replace

from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes
from qdsft.planning.memory.training_memory import training_peak

SPARED = 0.1
"""Share of the memory that is left alone: the model of memory and the allocator are not exact."""
EVERY = (4, 3, 2)
"""Distances between layers that are computed again, when neither all nor none are."""


def recompute_all(setup: Setup) -> Setup:
    """The set-up with every layer computed again: the least memory."""
    return replace(setup, checkpointing=True, every_n_layers=1)


def least_recomputation(shapes: Shapes, setup: Setup, memory: int) -> Setup:
    """The fastest set-up whose training peak fits into `memory` bytes with SPARED to spare; all layers if none does."""
    ways = [
        replace(setup, checkpointing=False, every_n_layers=1),
        *(replace(setup, checkpointing=True, every_n_layers=every) for every in EVERY),
    ]
    fitting = (way for way in ways if training_peak(shapes, way).total <= (1 - SPARED) * memory)
    return next(fitting, recompute_all(setup))


def describe_recomputation(setup: Setup) -> str:
    """In words."""
    if not setup.checkpointing:
        return "no layer is computed twice"
    if setup.every_n_layers == 1:
        return "every layer is computed twice"
    return f"one layer in {setup.every_n_layers} is computed twice"
