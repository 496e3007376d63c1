"""Check that packed samples do not attend to each other, with the packages and the device in use."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.training.trainer import RecipeTrainer

PROBE_TOKENS = 64
"""Number of leading tokens of each sample to use."""
ISOLATION_TOLERANCE = 1e-3
"""Largest accepted change of a packed sample's logits, in standard deviations, when its neighbour changes."""


def check_isolation(trainer: RecipeTrainer, samples: Sequence[Sequence[int]], recipe: Recipe) -> float:
    """Change one packed sample and return how far the logits of the next one move, in standard deviations.

    `samples` are token ids; the first and the last are used. Takes two forward passes. Raises UserError for a change
    above ISOLATION_TOLERANCE.
    """
    first, second = (list(sample[:PROBE_TOKENS]) for sample in (samples[0], samples[-1]))
    other = list(reversed(first))
    logits = [_second_logits(trainer, [sample, second]) for sample in (first, other)]
    change = float((logits[0] - logits[1]).abs().max() / logits[0].std().clamp(min=1e-6))
    if change > ISOLATION_TOLERANCE:
        raise UserError(
            f"{recipe.where('training.packing')}: packed samples see each other with attention "
            f"{recipe.model.attn_implementation!r} on this machine (logits move by {change:.2g} of their spread); set "
            "model.attn_implementation: sdpa, or training.packing: false"
        )
    return change


def _second_logits(trainer: RecipeTrainer, samples: list[list[int]]) -> torch.Tensor:
    packed = [token for sample in samples for token in sample]
    batch = trainer.data_collator(
        [{"input_ids": packed, "labels": packed, "seq_lengths": [len(sample) for sample in samples]}]
    )
    inputs = {key: value for key, value in trainer._prepare_inputs(batch).items() if key != "labels"}
    was_training = trainer.model.training
    trainer.model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        logits: torch.Tensor = trainer.model(**inputs, use_cache=False).logits
    trainer.model.train(was_training)
    start = len(samples[0])
    return logits[0, start : start + len(samples[1])].float()
