"""Plan a recipe: the GPU memory it needs, whether it fits, the largest batch that does, and changes if it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qdsft.errors import UserError
from qdsft.planning.cards import Target, find_card
from qdsft.planning.changes import Change, find_changes
from qdsft.planning.fitting import Fitting
from qdsft.planning.memory.config_file import read_config
from qdsft.planning.memory.decoding_memory import Saving, saving
from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes, read_shapes
from qdsft.planning.memory.training_memory import Peak
from qdsft.planning.workload import Workload, estimate_workload
from qdsft.recipe import Recipe, RecipeSource, load_recipe
from qdsft.recipe.saved_quantization import with_saved_quantization

NOT_COUNTED = {
    "training": ("activation_offloading", "torch_compile", "use_liger_kernel", "pad_to_multiple_of"),
    "lora": ("layers_to_transform", "layer_replication", "target_parameters", "trainable_token_indices"),
}
"""Keys whose effect on memory is not modelled."""
TIGHT = 0.1
"""With less than this share of the GPU to spare, a plan is tight: a display or fragmentation may take it."""


@dataclass(frozen=True)
class Plan:
    """The result of `qdsft plan`; all figures are estimates."""

    recipe: Recipe
    shapes: Shapes
    setup: Setup
    target: Target
    training: Peak
    evaluation: Peak
    saving: Saving
    workload: Workload | None
    workload_note: str
    steps: int | None
    tokens_seen: int | None
    hours: float | None
    usd: float | None
    largest_length: int | None
    """Most tokens of a row at the recipe's micro-batch; None if no length fits."""
    largest_micro_batch: int | None
    changes: tuple[Change, ...]
    """Changes to apply, in this order, until the recipe fits; empty if it does."""
    config: str

    @property
    def fits(self) -> bool:
        """Return whether training and evaluation fit."""
        return max(self.training.total, self.evaluation.total) <= self.target.memory

    @property
    def tight(self) -> bool:
        """Return whether the recipe fits with less than TIGHT to spare."""
        return self.fits and max(self.training.total, self.evaluation.total) > (1 - TIGHT) * self.target.memory

    @property
    def not_counted(self) -> list[str]:
        """Return the keys that the recipe sets and the memory model ignores."""
        sections = {"training": self.recipe.training, "lora": self.recipe.lora or {}}
        return [f"{name}.{key}" for name, keys in NOT_COUNTED.items() for key in keys if sections[name].get(key)]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values, in bytes."""
        return {
            "modelled": True,
            "recipe": str(self.recipe.path),
            "model": self.recipe.model.name_or_path,
            "config": self.config,
            "parameters": self.shapes.parameters,
            "gpu": self.target.name,
            "gpu_memory": self.target.memory,
            "gpus": self.target.count,
            "zero": self.target.zero,
            "training": _peak_json(self.training, self.target.memory),
            "evaluation": _peak_json(self.evaluation, self.target.memory),
            "saving": {**asdict(self.saving), "disk": self.saving.disk},
            "not_counted": self.not_counted,
            "fits": self.fits,
            "tight": self.tight,
            "micro_batch": self.setup.micro_batch,
            "length": self.setup.length,
            "recomputation": {
                "activation_checkpointing": self.setup.checkpointing,
                "every_n_layers": self.setup.every_n_layers,
                "chosen": self.setup.adaptive,
            },
            "largest_length": self.largest_length,
            "largest_micro_batch": self.largest_micro_batch,
            "changes": [asdict(change) for change in self.changes],
            "estimate": asdict(self.workload) if self.workload else None,
            "estimate_note": self.workload_note,
            "steps": self.steps,
            "tokens": self.tokens_seen,
            "hours": self.hours,
            "usd": self.usd,
        }


def plan(
    recipe: RecipeSource,
    overrides: Sequence[str] = (),
    *,
    gpu: str | None = None,
    gpu_memory: float | None = None,
    gpus: int = 1,
    zero: int = 0,
) -> Plan:
    """Plan a recipe on `gpus` GPUs, by name ("RTX 4060") or by the memory of one in GiB (default 8).

    `zero` is DeepSpeed's ZeRO stage. Raises UserError as make_plan does, and for a GPU that is not listed.
    """
    if gpu is not None and gpu_memory:
        raise UserError("--gpu and --gpu-memory both set the memory of a GPU; give one of them")
    name, card = find_card(gpu) if gpu is not None else (None, None)
    memory = card.memory if card else int((gpu_memory or 8.0) * 2**30)
    return make_plan(recipe, overrides, Target(memory, gpus, zero, name, card))


def make_plan(path: RecipeSource, overrides: Sequence[str], target: Target) -> Plan:
    """Plan a recipe on the GPUs of `target`.

    Raises UserError as load_recipe, read_config, read_shapes and read_setup do.
    """
    recipe = load_recipe(path, overrides)
    if target.zero and target.count == 1:
        raise UserError("--zero shards over several GPUs; add --gpus 2 or more")
    config, found = read_config(recipe)
    recipe = with_saved_quantization(recipe, config)
    shapes = read_shapes(config, found)
    workload, note = estimate_workload(recipe)
    fitting = Fitting(shapes, target, workload)
    setup = fitting.setup(recipe)
    steps = workload.steps(recipe, target.count) if workload else None
    tokens = workload.tokens_seen(recipe, target.count) if workload else None
    measured = target.card.find_measured(recipe.name) if target.card else None
    hours = tokens / measured.tokens_per_second / 3600 / target.count if measured and tokens else None
    return Plan(
        recipe=recipe,
        shapes=shapes,
        setup=setup,
        target=target,
        training=fitting.training(recipe),
        evaluation=fitting.evaluation(recipe),
        saving=saving(recipe, shapes, setup, steps),
        workload=workload,
        workload_note=note,
        steps=steps,
        tokens_seen=tokens,
        hours=hours,
        usd=hours * measured.usd_per_hour * target.count if hours and measured and measured.usd_per_hour else None,
        largest_length=fitting.largest_length(setup),
        largest_micro_batch=fitting.largest_micro_batch(setup),
        changes=tuple(find_changes(fitting, recipe, path, overrides, config)),
        config=found,
    )


def _peak_json(peak: Peak, memory: int) -> dict[str, Any]:
    return {
        "phase": peak.phase,
        "components": peak.components,
        "total": peak.total,
        "allocated": peak.allocated,
        "phases": peak.phases,
        "paged": peak.paged,
        "margin": memory - peak.total,
        "fits": peak.total <= memory,
    }
