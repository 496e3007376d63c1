"""Estimate the disk space that checkpoints and the result of a run need."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qdsft.planning.peak import Sizes
from qdsft.recipe import Recipe


@dataclass(frozen=True)
class Saving:
    """Disk space in bytes."""

    result: int
    """The saved adapter or model."""
    checkpoint: int
    """One checkpoint, optimizer states included."""
    kept: int
    """Checkpoints on disk at the same time, including the one being written."""

    @property
    def disk(self) -> int:
        """Return the largest number of bytes on disk."""
        return self.result + self.kept * self.checkpoint


def estimate_saving(recipe: Recipe, sizes: Sizes, optimizer: int, steps: int | None) -> Saving:
    """Return what the checkpoints and the result of a run of `steps` steps need; `optimizer` is bytes of states."""
    return Saving(sizes.trained_bytes, sizes.trained_bytes + optimizer, _kept(recipe, steps or 1))


def _kept(recipe: Recipe, steps: int) -> int:
    strategy, limit = recipe.training_value("save_strategy"), recipe.training_value("save_total_limit")
    if strategy == "no":
        return 0
    written = math.ceil(recipe.training_value("num_train_epochs"))
    if strategy == "steps":
        every = recipe.training_value("save_steps")
        written = math.ceil(1 / every) if every < 1 else max(steps // int(every), 1)
    # An old checkpoint is deleted after the new one is written.
    return int(min(written, limit + 1) if limit else written)
