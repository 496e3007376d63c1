"""Plan a recipe: the GPU memory it needs, whether it fits, the largest batch that does, and changes if it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qdsft.planning.cards import Target
from qdsft.planning.changes import Change, find_changes
from qdsft.planning.config_file import read_config
from qdsft.planning.fitting import Fitting, Setup, Tracer
from qdsft.planning.peak import Peak
from qdsft.planning.saving import Saving, estimate_saving
from qdsft.planning.workload import Workload, estimate_workload
from qdsft.recipe import Recipe, RecipeSource, load_recipe
from qdsft.recipe.saved_quantization import with_saved_quantization

NOT_COUNTED = ("activation_offloading", "torch_compile", "use_liger_kernel", "pad_to_multiple_of")
"""Keys of the training section whose effect on memory is not traced."""
MakeTracer = Callable[[Recipe, dict[str, Any], str], Tracer]
"""Make the tracer of a recipe's model from the fields of its config.json and the place of the file."""
TIGHT = 0.1
"""With less than this share of the GPU to spare, a plan is tight: a display or fragmentation may take it."""


@dataclass(frozen=True)
class Plan:
    """The result of `qdsft plan`; all figures are estimates."""

    recipe: Recipe
    parameters: int
    """Weights of the base model."""
    setup: Setup
    target: Target
    training: Peak
    evaluation: Peak
    saving: Saving
    workload: Workload | None
    workload_note: str
    steps: int | None
    tokens_seen: int | None
    largest_length: int | None
    """Most tokens of a row at the recipe's micro-batch; None if no length fits."""
    largest_micro_batch: int | None
    changes: tuple[Change, ...]
    """Changes to apply, in this order, until the recipe fits; empty if it does."""
    config: str

    @property
    def total(self) -> int:
        """Return the bytes that training and evaluation need."""
        return max(self.training.total, self.evaluation.total)

    @property
    def fits(self) -> bool:
        """Return whether training and evaluation fit."""
        return self.total <= self.target.memory

    @property
    def tight(self) -> bool:
        """Return whether the recipe fits with less than TIGHT to spare."""
        return self.fits and self.total > (1 - TIGHT) * self.target.memory

    @property
    def not_counted(self) -> list[str]:
        """Return the keys that the recipe sets and the trace ignores."""
        given = self.recipe.training
        found = [key for key in NOT_COUNTED if given.get(key)]
        if (given.get("activation_checkpointing_kwargs") or {}).get("offload"):
            found.append("activation_checkpointing_kwargs.offload")
        return [f"training.{key}" for key in found]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values, in bytes."""
        target, way = self.target, self.setup.way
        same = ("config", "parameters", "not_counted", "fits", "tight", "largest_length", "largest_micro_batch")
        return {
            "modelled": True,
            "recipe": str(self.recipe.path),
            "model": self.recipe.model.name_or_path,
            **{name: getattr(self, name) for name in same},
            "gpu": target.name,
            "gpu_memory": target.memory,
            "gpus": target.count,
            "zero": target.zero,
            "fsdp": target.fsdp,
            "offload": target.offload,
            "training": self.training.to_json(target.memory),
            "evaluation": self.evaluation.to_json(target.memory),
            "saving": {**asdict(self.saving), "disk": self.saving.disk},
            "micro_batch": self.setup.micro_batch,
            "length": self.setup.length,
            "recomputation": {
                "activation_checkpointing": way.checkpointing,
                "every_n_layers": way.every_n_layers,
                "chosen": self.setup.adaptive,
            },
            "changes": [asdict(change) for change in self.changes],
            "estimate": asdict(self.workload) if self.workload else None,
            "estimate_note": self.workload_note,
            "steps": self.steps,
            "tokens": self.tokens_seen,
        }


def make_plan(path: RecipeSource, overrides: Sequence[str], target: Target, make_tracer: MakeTracer) -> Plan:
    """Plan a recipe on the GPUs of `target`, with the traces of `make_tracer`.

    Raises UserError as load_recipe, read_config and Fitting.setup do.
    """
    target.check()
    recipe = load_recipe(path, overrides)
    config, found = read_config(recipe)
    recipe = with_saved_quantization(recipe, config)
    workload, note = estimate_workload(recipe)
    fitting = Fitting(make_tracer(recipe, config, found), target, workload)
    setup = fitting.setup(recipe)
    steps = workload.steps(recipe, target.count) if workload else None
    sizes = fitting.tracer.sizes(recipe)
    return Plan(
        recipe=recipe,
        parameters=sizes.parameters,
        setup=setup,
        target=target,
        training=fitting.training(recipe),
        evaluation=fitting.evaluation(recipe),
        saving=estimate_saving(recipe, sizes, fitting.optimizer_bytes(recipe), steps),
        workload=workload,
        workload_note=note,
        steps=steps,
        tokens_seen=workload.tokens_seen(recipe, target.count) if workload else None,
        largest_length=fitting.largest_length(recipe, setup),
        largest_micro_batch=fitting.largest_micro_batch(recipe, setup),
        changes=tuple(find_changes(fitting, recipe, path, overrides, config)),
        config=found,
    )
