"""Ways to recompute layers in the backward pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from qdsft.recipe import Recipe


@dataclass(frozen=True)
class Way:
    """Which layers are recomputed: none, one in `every_n_layers`, or all."""

    checkpointing: bool
    every_n_layers: int = 1

    def describe(self) -> str:
        """Return the choice in words."""
        if not self.checkpointing:
            return "no layer is recomputed"
        if self.every_n_layers == 1:
            return "every layer is recomputed"
        return f"one layer in {self.every_n_layers} is recomputed"

    def kwargs(self, recipe: Recipe) -> dict[str, Any]:
        """Return the arguments of activation checkpointing: the recipe's own, with this choice."""
        given = recipe.training_value("activation_checkpointing_kwargs") or {}
        values = dict(json.loads(given) if isinstance(given, str) else given)
        return values | ({"every_n_layers": self.every_n_layers} if self.every_n_layers > 1 else {})
