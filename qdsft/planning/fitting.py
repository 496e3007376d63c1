"""Peak memory of a recipe and its variants on given GPUs, and the largest variant that fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from qdsft.errors import UserError
from qdsft.planning.cards import Target
from qdsft.planning.constants import CONTEXT
from qdsft.planning.peak import CONTEXT_NAME, OPTIMIZER, PAGED, Peak, Sizes, Traced, find_peak
from qdsft.planning.search import largest
from qdsft.planning.sharding import peak_on
from qdsft.planning.way import Way
from qdsft.planning.workload import Workload
from qdsft.recipe import Recipe
from qdsft.recipe.sections import AUTO

LENGTH_STEP = 64
LONGEST = 2**20
MOST_ROWS = 4096
SPARED = 0.1
"""Share of the memory that "auto" keeps free, since neither the trace nor the allocator's model is exact."""
EVERY = (4, 3, 2)
"""Recompute one layer in this many, between recomputing no layer and all layers."""


class Tracer(Protocol):
    """Traces of one model's training step and evaluation."""

    @property
    def positions(self) -> int | None:
        """Tokens of the longest row that the model reads, if its config says so."""

    def sizes(self, recipe: Recipe) -> Sizes:
        """Return the sizes of the recipe's model."""

    def training(self, recipe: Recipe, rows: int, length: int, way: Way) -> Traced:
        """Return the trace of a step on `rows` rows of `length` tokens; the tracer packs them if the recipe does."""

    def evaluation(self, recipe: Recipe, prompt: int) -> Traced:
        """Return the trace of decoding."""


@dataclass(frozen=True)
class Setup:
    """The rows of a micro-batch and the layers that are recomputed."""

    micro_batch: int
    length: int
    """Tokens of a row, including padding."""
    way: Way
    adaptive: bool
    """Whether the recipe leaves the way to the available memory."""


class Fitting:
    """Compute what fits, for one model on the GPUs of a target."""

    def __init__(self, tracer: Tracer, target: Target, workload: Workload | None) -> None:
        self.tracer, self.target, self.workload = tracer, target, workload

    def setup(self, recipe: Recipe) -> Setup:
        """Return the set-up of a recipe. Raises UserError for one that the target cannot train."""
        self._check(recipe)
        length = recipe.max_length or (self.workload.longest if self.workload else self.tracer.positions)
        if not length:
            where = recipe.where("training.max_length")
            raise UserError(f"{where}: the length of the longest row is unknown; set training.max_length")
        recipe.accumulation_steps(self.target.count)  # raises where the batch cannot be divided
        wanted, kwargs = (recipe.training_value(f"activation_checkpointing{end}") for end in ("", "_kwargs"))
        adaptive = wanted == AUTO
        every = 1 if adaptive else (kwargs or {}).get("every_n_layers", 1)
        setup = Setup(
            micro_batch=recipe.training_value("per_device_train_batch_size"),
            length=length,
            way=Way(bool(wanted), every if wanted else 1),
            adaptive=adaptive,
        )
        if adaptive and not (self.target.zero or self.target.fsdp):
            return self.least_recomputation(recipe, setup)
        return setup

    def least_recomputation(self, recipe: Recipe, setup: Setup) -> Setup:
        """Return the fastest set-up whose peak leaves SPARED of the memory free, or one that recomputes all layers."""

        def fits(way: Way) -> bool:
            return self.peak(recipe, replace(setup, way=way)).total <= (1 - SPARED) * self.target.memory

        every_layer, none = Way(True), Way(False)
        if fits(none):
            return replace(setup, way=none)
        ways = [Way(True, every) for every in EVERY] if fits(every_layer) else []
        return replace(setup, way=next((way for way in ways if fits(way)), every_layer))

    def peak(self, recipe: Recipe, setup: Setup) -> Peak:
        """Return the peak of training with a set-up."""
        return peak_on(self.target, self._trace(recipe, setup), self.tracer.sizes(recipe))

    def _trace(self, recipe: Recipe, setup: Setup) -> Traced:
        return self.tracer.training(recipe, setup.micro_batch, setup.length, setup.way)

    def training(self, recipe: Recipe) -> Peak:
        """Return the peak of training."""
        return self.peak(recipe, self.setup(recipe))

    def evaluation(self, recipe: Recipe) -> Peak:
        """Return the peak of `qdsft evaluate` on one GPU; without data, a prompt of max_length is assumed."""
        length = self.setup(recipe).length
        prompt = min(self.workload.longest_prompt, length) if self.workload else length
        return find_peak(self.tracer.evaluation(recipe, prompt), {CONTEXT_NAME: CONTEXT})

    def optimizer_bytes(self, recipe: Recipe) -> int:
        """Return the bytes of all optimizer states, before they are divided over GPUs."""
        phases = self._trace(recipe, self.setup(recipe)).phases.values()
        return round(max(parts.get(OPTIMIZER, 0) + parts.get(PAGED, 0) for parts in phases))

    def largest_total(self, recipe: Recipe) -> int:
        """Return the larger of both peaks in bytes."""
        return max(self.training(recipe).total, self.evaluation(recipe).total)

    def largest_length(self, recipe: Recipe, setup: Setup) -> int | None:
        """Return the longest row with which training fits, in steps of 64 tokens; None if 64 tokens do not fit."""
        limit = min(self.tracer.positions or LONGEST, LONGEST) // LENGTH_STEP
        if _is_one_row(recipe):
            steps = self._most_tokens(recipe, setup) // setup.micro_batch // LENGTH_STEP
            return min(steps, limit) * LENGTH_STEP or None

        def peak(steps: int) -> float:
            return self._recomputing(recipe, replace(setup, length=steps * LENGTH_STEP))

        return largest(limit, setup.length // LENGTH_STEP, peak, self.target.memory) * LENGTH_STEP or None

    def largest_micro_batch(self, recipe: Recipe, setup: Setup) -> int | None:
        """Return the largest micro-batch with which training fits; None if one row does not fit."""
        if _is_one_row(recipe):
            return min(self._most_tokens(recipe, setup) // setup.length, MOST_ROWS) or None

        def peak(rows: int) -> float:
            return self._recomputing(recipe, replace(setup, micro_batch=rows))

        return largest(MOST_ROWS, setup.micro_batch, peak, self.target.memory) or None

    def _most_tokens(self, recipe: Recipe, setup: Setup) -> int:
        """Return the most tokens of a step that is one row. One search answers for the length and the micro-batch."""

        def peak(steps: int) -> float:
            return self._recomputing(recipe, replace(setup, micro_batch=1, length=steps * LENGTH_STEP))

        tokens = setup.micro_batch * setup.length
        return largest(LONGEST // LENGTH_STEP, tokens // LENGTH_STEP, peak, self.target.memory) * LENGTH_STEP

    def _recomputing(self, recipe: Recipe, setup: Setup) -> float:
        return self.peak(recipe, replace(setup, way=Way(True)) if setup.adaptive else setup).total

    def _check(self, recipe: Recipe) -> None:
        """Raise UserError for a sharding that does not work with quantized weights."""
        if recipe.quantization and self.target.shards_weights:
            option, without = ("--fsdp", "leave it out") if self.target.fsdp else ("--zero 3", "use --zero 0")
            raise UserError(f"{option} cannot shard quantized weights; {without}, or remove the quantization section")


def _is_one_row(recipe: Recipe) -> bool:
    """Return whether a step is one packed row, of which only the number of tokens matters.

    Held-out rows that training scores make their own row, whose tokens follow from the length and not from the
    micro-batch.
    """
    scores = recipe.training_value("eval_strategy") != "no" or recipe.evaluation.every_steps is not None
    return recipe.shares_rows and not scores
