"""Ways to recompute layers in the backward pass."""

from __future__ import annotations

from dataclasses import dataclass


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
