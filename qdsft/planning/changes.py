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
        for extra, why in propose(fitting, recipe):
            try:
                changed = with_saved_quantization(load_recipe(path, [*done, *extra]), config)
            except UserError:  # other bits than those in which the base model is saved
                continue
            after = fitting.largest_total(changed)
            if after < total:
                done, recipe = [*done, *extra], changed
                yield Change(tuple(extra), why, after, after <= fitting.target.memory)


Proposal = Iterator[tuple[list[str], str]]


def _fewer_rows(fitting: Fitting, recipe: Recipe) -> Proposal:
    setup = fitting.setup(recipe)
    if setup.micro_batch == 1:
        return
    total = recipe.training.get("global_batch_size") or setup.micro_batch * fitting.target.count
    most = fitting.largest_micro_batch(recipe, setup) or 1
    rows = next(n for n in range(min(most, setup.micro_batch - 1), 0, -1) if total % (n * fitting.target.count) == 0)
    extra = [] if recipe.training.get("global_batch_size") else [f"training.global_batch_size={total}"]
    yield [f"training.per_device_train_batch_size={rows}", *extra], "same result, with more gradient accumulation"


def _fewer_decoded(fitting: Fitting, recipe: Recipe) -> Proposal:
    if fitting.evaluation(recipe).total <= fitting.target.memory:
        return

    def peak(rows: int) -> float:
        section = recipe.evaluation.model_copy(update={"batch_size": rows})
        return fitting.evaluation(recipe.model_copy(update={"evaluation": section})).total

    most = recipe.evaluation.batch_size
    rows = largest(most, most // 2, peak, fitting.target.memory) or 1
    yield [f"evaluation.batch_size={rows}"], "evaluation decodes fewer rows together"


def _attention(fitting: Fitting, recipe: Recipe) -> Proposal:
    if recipe.model.attn_implementation == "eager":
        yield ["model.attn_implementation=sdpa"], "attention scores are not stored"


def _checkpointing(fitting: Fitting, recipe: Recipe) -> Proposal:
    if not recipe.training_value("activation_checkpointing"):
        yield (
            ["training.activation_checkpointing=true"],
            "about a third slower: layers are recomputed in the backward pass",
        )
    elif fitting.setup(recipe).way.every_n_layers > 1:
        yield ["training.activation_checkpointing_kwargs=null"], "recomputes every layer"


def _formats(fitting: Fitting, recipe: Recipe) -> Proposal:
    if recipe.model.dtype == "float32":
        yield ["model.dtype=bfloat16"], "half of the bytes"


def _quantization(fitting: Fitting, recipe: Recipe) -> Proposal:
    values = recipe.quantization or {}
    if values.get("load_in_4bit"):
        if not values.get("bnb_4bit_use_double_quant"):
            yield ["quantization.bnb_4bit_use_double_quant=true"], "also quantizes the scales"
    elif recipe.lora is not None and fitting.target.zero < 3 and not fitting.target.fsdp:
        extra = [
            "quantization.load_in_8bit=false",
            "quantization.load_in_4bit=true",
            "quantization.bnb_4bit_quant_type=nf4",
            "quantization.bnb_4bit_use_double_quant=true",
            "quantization.bnb_4bit_compute_dtype=bfloat16",
        ]
        yield extra[0 if values.get("load_in_8bit") else 1 :], "4-bit weights (QLoRA)"


def _optimizer(fitting: Fitting, recipe: Recipe) -> Proposal:
    if "8bit" not in str(recipe.training_value("optim")) and not fitting.target.offload:  # a launch refuses it there
        yield ["training.optim=adamw_8bit"], "optimizer states in 8 bit"


def _dropout(fitting: Fitting, recipe: Recipe) -> Proposal:
    if (recipe.lora or {}).get("lora_dropout"):
        yield ["lora.lora_dropout=0.0"], "dropout stores a copy of every adapter's input"


def _shorter(fitting: Fitting, recipe: Recipe) -> Proposal:
    longest = fitting.workload.longest if fitting.workload else 1
    setup = fitting.setup(recipe)
    most = fitting.largest_length(recipe, setup)
    if most and longest <= most < setup.length:
        yield [f"training.max_length={most}"], "all rows are estimated to be shorter"
    elif setup.length // 2 >= LENGTH_STEP:
        yield [f"training.max_length={setup.length // 2}"], "longer rows are handled by data.overlength"


def _rank(fitting: Fitting, recipe: Recipe) -> Proposal:
    if recipe.lora and recipe.lora.get("r", 8) > 8:
        yield ["lora.r=8"], "a smaller adapter"


def _adapters(fitting: Fitting, recipe: Recipe) -> Proposal:
    if recipe.lora is None:
        yield ["lora.r=16", "lora.target_modules=all-linear"], "LoRA instead of all weights; raise the learning rate"


_PROPOSALS: tuple[Callable[[Fitting, Recipe], Proposal], ...] = (
    _fewer_decoded,
    _fewer_rows,
    _attention,
    _formats,
    _dropout,
    _checkpointing,
    _optimizer,
    _shorter,
    _adapters,
    _quantization,
    _rank,
    _fewer_decoded,
)
