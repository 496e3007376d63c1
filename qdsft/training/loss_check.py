"""Compare TRL's loss, which never forms all logits, with the loss of the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from qdsft.errors import UserError, reason
from qdsft.model.adapters import base_model
from qdsft.model.device_errors import is_device_error
from qdsft.recipe import Recipe
from qdsft.tokenization.rows import IGNORED
from qdsft.training import cpu_loss
from qdsft.training.isolation import compute_dtype
from qdsft.training.trainer import RecipeTrainer

TOKENS = 64
"""So many tokens at the end of a sample are compared; all logits of these are in memory."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Largest accepted difference, as a share of the loss: logits are rounded to the dtype of the arithmetic."""


@dataclass(frozen=True)
class Losses:
    """The mean loss per supervised token of one sample, in nats."""

    fused: float
    """From TRL's output layer."""
    full: float
    """From the logits of the model's own forward pass."""


def check_fused_loss(trainer: RecipeTrainer, ids: Sequence[int], labels: Sequence[int], recipe: Recipe) -> Losses:
    """Return both losses of a sample. Raises UserError if they differ, or if TRL's output layer fails.

    TRL computes the output layer of a model itself. It does not know every scaling or capping of logits.
    """
    row: dict[str, Any] = {"input_ids": list(ids[-TOKENS:]), "labels": list(labels[-TOKENS:])}
    if recipe.packing:
        row["seq_lengths"] = [len(row["input_ids"])]
    inputs = trainer._prepare_inputs(trainer.data_collator([row]))
    model, was_training = trainer.model, trainer.model.training
    model.eval()
    try:
        with trainer.compute_loss_context_manager():
            found = Losses(_fused(trainer, inputs, recipe), _full(trainer, inputs))
    finally:
        model.train(was_training)
    if not abs(found.fused - found.full) <= TOLERANCE[compute_dtype(trainer)] * abs(found.full):
        raise UserError(
            f"{_where(recipe)}: TRL's loss is {found.fused:.4g} nats a token where the model's own logits give "
            f"{found.full:.4g}: TRL computes the output layer of {_name(trainer)} wrongly; choose another model"
        )
    return found


def _fused(trainer: RecipeTrainer, inputs: dict[str, Any], recipe: Recipe) -> float:
    try:
        # With a gradient, as in training: the loss for CPUs computes in another way without.
        with cpu_loss.used_by_trl() if trainer.args.use_cpu else nullcontext():
            output = trainer.model(**inputs, use_cache=False, fused_lm_head=True)
    except (AttributeError, TypeError, KeyError, ValueError, RuntimeError, IndexError) as error:
        if is_device_error(error):
            raise
        raise UserError(
            f"{_where(recipe)}: TRL cannot compute the output layer of {_name(trainer)} ({reason(error)}); choose "
            "another model"
        ) from error
    return float(-output.log_probs.detach().float().sum() / output.label_mask.sum())


@torch.no_grad()
def _full(trainer: RecipeTrainer, inputs: dict[str, Any]) -> float:
    labels = inputs["labels"][0, 1:]
    without = {key: value for key, value in inputs.items() if key != "labels"}
    logits = trainer.model(**without, use_cache=False).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED))


def _where(recipe: Recipe) -> str:
    return f"{recipe.where('model.name_or_path')}: {recipe.model.name_or_path}"


def _name(trainer: RecipeTrainer) -> str:
    return type(base_model(trainer.model)).__name__
