"""Changes for a recipe that does not fit: overrides, ordered by what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qdsft.errors import UserError
from qdsft.planning.fitting import LENGTH_STEP, Fitting
from qdsft.planning.search import largest
from qdsft.recipe import Recipe, RecipeSource, load_recipe
from qdsft.recipe.saved_quantization import with_saved_quantization


@dataclass(frozen=True)
class Change:
    """Overrides that save memory."""

    overrides: tuple[str, ...]
    why: str
    """Effect and cost of the overrides."""
    total: int
    """Bytes needed with these overrides and all changes before them."""
    fits: bool


def find_changes(
    fitting: Fitting, recipe: Recipe, path: RecipeSource, overrides: Sequence[str], config: Mapping[str, Any]
) -> Iterator[Change]:
    """Yield changes, each on top of those before it, until training and evaluation fit or no more are known.

    `config` are the fields of the base model's config.json.
    """
    done = list(overrides)
    for propose in _PROPOSALS:
        total = fitting.largest_total(recipe)
        if total <= fitting.target.memory:
            return
        if (found := propose(fitting, recipe)) is None:
            continue
        overrides, why = found
        try:
            changed = with_saved_quantization(load_recipe(path, [*done, *overrides]), config)
        except UserError:  # other bits than those in which the base model is saved
            continue
        after = fitting.largest_total(changed)
        if after < total:
            done, recipe = [*done, *overrides], changed
            yield Change(tuple(overrides), why, after, after <= fitting.target.memory)


Proposal = tuple[Sequence[str], str] | None
"""Overrides and why, if they suit the recipe."""
Propose = Callable[[Fitting, Recipe], Proposal]


def _when(suits: Callable[[Recipe], object], why: str, *overrides: str) -> Propose:
    """Return a proposal of these overrides for the recipes that they suit."""
    return lambda _, recipe: (overrides, why) if suits(recipe) else None


def _fewer_rows(fitting: Fitting, recipe: Recipe) -> Proposal:
    setup, count = fitting.setup(recipe), fitting.target.count
    if setup.micro_batch == 1:
        return None
    total = recipe.training.get("global_batch_size") or setup.micro_batch * count
    most = fitting.largest_micro_batch(recipe, setup) or 1
    rows = next(n for n in range(min(most, setup.micro_batch - 1), 0, -1) if total % (n * count) == 0)
    extra = [] if recipe.training.get("global_batch_size") else [f"training.global_batch_size={total}"]
    return [f"training.per_device_train_batch_size={rows}", *extra], "same result, with more gradient accumulation"


def _fewer_decoded(fitting: Fitting, recipe: Recipe) -> Proposal:
    if fitting.evaluation(recipe).total <= fitting.target.memory:
        return None

    def peak(rows: int) -> float:
        section = recipe.evaluation.model_copy(update={"batch_size": rows})
        return fitting.evaluation(recipe.model_copy(update={"evaluation": section})).total

    most = recipe.evaluation.batch_size
    rows = largest(most, most // 2, peak, fitting.target.memory) or 1
    return [f"evaluation.batch_size={rows}"], "evaluation decodes fewer rows together"


def _optimizer(fitting: Fitting, recipe: Recipe) -> Proposal:
    if "8bit" in str(recipe.training_value("optim")) or fitting.target.offload:  # a launch refuses it there
        return None
    return ["training.optim=adamw_8bit"], "optimizer states in 8 bit"


def _shorter(fitting: Fitting, recipe: Recipe) -> Proposal:
    longest = fitting.workload.longest if fitting.workload else 1
    setup = fitting.setup(recipe)
    most = fitting.largest_length(recipe, setup)
    if most and longest <= most < setup.length:
        return [f"training.max_length={most}"], "all rows are estimated to be shorter"
    if setup.length // 2 < LENGTH_STEP:
        return None
    return [f"training.max_length={setup.length // 2}"], "longer rows are handled by data.overlength"


def _four_bits(fitting: Fitting, recipe: Recipe) -> Proposal:
    values = recipe.quantization or {}
    if values.get("load_in_4bit") or recipe.lora is None or fitting.target.shards_weights:
        return None
    wanted = ("load_in_4bit=true", "bnb_4bit_quant_type=nf4", "bnb_4bit_use_double_quant=true")
    instead = ("load_in_8bit=false",) if values.get("load_in_8bit") else ()
    overrides = [f"quantization.{value}" for value in (*instead, *wanted, "bnb_4bit_compute_dtype=bfloat16")]
    return overrides, "4-bit weights (QLoRA)"


def _four_bits_without_double_quant(recipe: Recipe) -> bool:
    values = recipe.quantization or {}
    return bool(values.get("load_in_4bit")) and not values.get("bnb_4bit_use_double_quant")


_PROPOSALS: tuple[Propose, ...] = (
    _fewer_decoded,
    _fewer_rows,
    _when(
        lambda recipe: recipe.model.attn_implementation == "eager",
        "attention scores are not stored",
        "model.attn_implementation=sdpa",
    ),
    _when(lambda recipe: recipe.model.dtype == "float32", "half of the bytes", "model.dtype=bfloat16"),
    _when(
        lambda recipe: (recipe.lora or {}).get("lora_dropout"),
        "dropout stores a copy of every adapter's input",
        "lora.lora_dropout=0.0",
    ),
    _when(
        lambda recipe: not recipe.training_value("activation_checkpointing"),
        "about a third slower: layers are recomputed in the backward pass",
        "training.activation_checkpointing=true",
    ),
    _when(
        lambda recipe: recipe.training_value("activation_checkpointing_kwargs"),
        "recomputes every layer",
        "training.activation_checkpointing_kwargs=null",
    ),
    _optimizer,
    _shorter,
    _when(
        lambda recipe: recipe.lora is None,
        "LoRA instead of all weights; raise the learning rate",
        "lora.r=16",
        "lora.target_modules=all-linear",
    ),
    _when(_four_bits_without_double_quant, "also quantizes the scales", "quantization.bnb_4bit_use_double_quant=true"),
    _four_bits,
    _when(lambda recipe: (recipe.lora or {}).get("r", 8) > 8, "a smaller adapter", "lora.r=8"),
    _fewer_decoded,
)
