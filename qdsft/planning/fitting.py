"""Peak memory of a recipe and its variants on given GPUs, and the largest variant that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qdsft.errors import UserError
from qdsft.planning.cards import Target
from qdsft.planning.memory.activation_checkpointing import least_recomputation, recompute_all
from qdsft.planning.memory.decoding_memory import decoding_peak
from qdsft.planning.memory.setup import Setup, read_setup
from qdsft.planning.memory.shapes import Shapes
from qdsft.planning.memory.training_memory import Peak, training_peak
from qdsft.planning.workload import Workload
from qdsft.recipe import Recipe

LENGTH_STEP = 64
LONGEST = 2**20
MOST_ROWS = 4096


class Fitting:
    """Compute what fits, for one model on the GPUs of a target."""

    def __init__(self, shapes: Shapes, target: Target, workload: Workload | None) -> None:
        self.shapes, self.target, self.workload = shapes, target, workload

    def setup(self, recipe: Recipe) -> Setup:
        """Return the set-up of a recipe. Raises UserError as read_setup does, and if no length is known."""
        length = recipe.max_length or (self.workload.longest if self.workload else self.shapes.positions)
        if not length:
            where = recipe.where("training.max_length")
            raise UserError(f"{where}: the length of the longest row is unknown; set training.max_length")
        setup = read_setup(
            recipe,
            length=length,
            gpus=self.target.count,
            zero=self.target.zero,
            bfloat16=self.target.bfloat16,
        )
        if setup.adaptive and not setup.zero:
            return least_recomputation(self.shapes, setup, self.target.memory)
        return setup

    def training(self, recipe: Recipe) -> Peak:
        """Return the peak of training."""
        return training_peak(self.shapes, self.setup(recipe))

    def evaluation(self, recipe: Recipe) -> Peak:
        """Return the peak of `qdsft evaluate` on one GPU; without data, a prompt of max_length is assumed."""
        setup = self.setup(recipe)
        prompt = min(self.workload.longest_prompt, setup.length) if self.workload else setup.length
        rows, new_tokens = recipe.evaluation.batch_size, recipe.evaluation.max_new_tokens
        return decoding_peak(self.shapes, setup, rows=rows, prompt=prompt, new_tokens=new_tokens)

    def largest_total(self, recipe: Recipe) -> int:
        """Return the larger of both peaks in bytes."""
        return max(self.training(recipe).total, self.evaluation(recipe).total)

    def largest_length(self, setup: Setup) -> int | None:
        """Return the longest row with which training fits, in steps of 64 tokens; None if 64 tokens do not fit."""
        limit = min(self.shapes.positions or LONGEST, LONGEST)
        steps = largest(limit // LENGTH_STEP, lambda n: self._fits(replace(setup, length=n * LENGTH_STEP)))
        return steps * LENGTH_STEP if steps else None

    def largest_micro_batch(self, setup: Setup) -> int | None:
        """Return the largest micro-batch with which training fits; None if one row does not fit."""
        return largest(MOST_ROWS, lambda n: self._fits(replace(setup, micro_batch=n))) or None

    def _fits(self, setup: Setup) -> bool:
        setup = recompute_all(setup) if setup.adaptive else setup
        return training_peak(self.shapes, setup).total <= self.target.memory


def largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to `limit` that fits, or 0. If a number fits, all smaller ones must fit."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
