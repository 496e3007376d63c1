"""Check that samples that share a row do not attend to each other, with the packages and the device in use."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig

from qdsft.errors import UserError
from qdsft.model.adapters import base_model
from qdsft.model.device import fork_rng
from qdsft.recipe import Recipe
from qdsft.training.trainer import RecipeTrainer

PROBE_TOKENS = 64
"""Number of leading tokens of each sample to use."""
ISOLATION_TOLERANCE = 1e-3
"""Largest accepted change of a sample's logits, in standard deviations, when its neighbour in the row changes."""
FIRST_TOKENS = 4
"""Tokens at the start of a sample: a convolution that runs over its boundary reaches no others."""
CONTROL_FACTOR = 4.0
"""How many times the change without a neighbour in the row (see `_control`) is accepted."""
SMALL_LAYERS = 2
"""Layers of the model that stands for one whose weights are sharded."""


@dataclass(frozen=True)
class Isolation:
    """How far the logits of a sample move when its neighbour changes, in standard deviations of the logits."""

    change: float
    tolerance: float


def check_isolation(
    trainer: RecipeTrainer, samples: Sequence[Sequence[int]], recipe: Recipe, model: Any = None
) -> Isolation:
    """Change one sample of a shared row, and measure how far the logits of the next one move.

    `samples` are token ids; the first and the last are used. `model` defaults to the trainer's. Takes two forward
    passes, and two more if the logits move. Raises UserError for a change above the tolerance.
    """
    model = trainer.model if model is None else model
    first, second = (list(sample[:PROBE_TOKENS]) for sample in (samples[0], samples[-1]))
    rows = [_shared_row(trainer, [sample, second]) for sample in (first, first[::-1])]
    pair = [_logits(trainer, model, row)[0, len(first) : len(first) + len(second)] for row in rows]
    found = Isolation(_change(pair), max(ISOLATION_TOLERANCE, _rounding(trainer, model, pair[0])))
    if found.change > found.tolerance:
        # Rounding of quantized activations depends on all tokens of a batch, also where samples do not see each other.
        rows = [_control(sample, second) for sample in (first, first[::-1])]
        control = _change([_logits(trainer, model, row)[1, : len(second)] for row in rows])
        found = Isolation(found.change, max(found.tolerance, CONTROL_FACTOR * control))
    if found.change > found.tolerance:
        key = "training.packing" if recipe.packing else "training.padding_free"
        kernel = model.config._attn_implementation
        other = "model.attn_implementation: sdpa, or " if kernel != "sdpa" and model._supports_sdpa else ""
        raise UserError(
            f"{recipe.where(key)}: samples in one row see each other with attention "
            f"{kernel!r} on this machine (logits move by {found.change:.2g} of their "
            f"spread, {found.tolerance:.2g} is allowed); set {other}{key}: false"
        )
    return found


def small_model(trainer: RecipeTrainer) -> Any:
    """Return a model of random weights with the config of the trainer's, but as few layers as show every kind.

    It stands for a model whose weights are sharded. Draws no numbers from the global random state.
    """
    base = base_model(trainer.accelerator.unwrap_model(trainer.model))
    config = copy.deepcopy(base.config)
    _keep_layers(config.get_text_config())
    with fork_rng(), torch.device(trainer.args.device):
        model = type(base)(config)
    return model.to(compute_dtype(trainer)).eval()


def _keep_layers(config: PretrainedConfig) -> None:
    """Keep the first layer of each kind (layer_types), at least SMALL_LAYERS, in every list with one entry a layer."""
    count = config.num_hidden_layers
    kinds = list(getattr(config, "layer_types", None) or [""] * count)
    kept = sorted({kinds.index(kind) for kind in kinds})
    kept += [layer for layer in range(count) if layer not in kept][: max(SMALL_LAYERS - len(kept), 0)]
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, [value[layer] for layer in sorted(kept)])
    config.num_hidden_layers = len(kept)


def _shared_row(trainer: RecipeTrainer, samples: list[list[int]]) -> dict[str, Any]:
    """Return the batch that the trainer's collator makes of samples that share a row."""
    rows = [{"input_ids": sample, "labels": sample} for sample in samples]
    if trainer.args.packing:
        packed = [token for sample in samples for token in sample]
        rows = [{"input_ids": packed, "labels": packed, "seq_lengths": [len(sample) for sample in samples]}]
    batch: dict[str, Any] = trainer.data_collator(rows)
    return batch


def _control(first: list[int], second: list[int]) -> dict[str, Any]:
    """Return a batch with the same tokens in two rows, where the second sample cannot see the first."""
    width = max(len(first), len(second))
    padded = [[*row, *[row[-1]] * (width - len(row))] for row in (first, second)]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in (first, second)]
    return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}


def _logits(trainer: RecipeTrainer, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Return the logits of a batch, `[rows, tokens, vocabulary]`."""
    inputs = {key: value for key, value in trainer._prepare_inputs(batch).items() if key != "labels"}
    was_training = model.training
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    model.train(was_training)
    return logits.float()


def _change(pair: Sequence[torch.Tensor]) -> float:
    """Return how far the logits of most tokens move, or of most tokens at the start, where a neighbour is seen first.

    Not of the token that moves most: rounding can send a token to another expert, and then moves it far.
    """
    moved = (pair[0] - pair[1]).abs().amax(-1) / pair[0].std().clamp(min=1e-6)
    return float(max(moved.median(), moved[:FIRST_TOKENS].median()))


def _rounding(trainer: RecipeTrainer, model: Any, logits: torch.Tensor) -> float:
    """Return how far rounding moves the logits, in their standard deviations.

    One step of the number format at the largest logit, for each addition to the residual stream, two a layer: such
    errors add up like a random walk. Kernels whose sums depend on the other tokens of the batch, as those of experts
    do, round otherwise when the neighbour changes. A neighbour that is seen moves the logits by several deviations.
    """
    step = torch.finfo(compute_dtype(trainer)).eps * logits.abs().max() / logits.std().clamp(min=1e-6)
    return float(step) * math.sqrt(2 * model.config.get_text_config().num_hidden_layers)


def compute_dtype(trainer: RecipeTrainer) -> torch.dtype:
    """Return the number format in which the trainer computes."""
    return torch.bfloat16 if trainer.args.bf16 else torch.float16 if trainer.args.fp16 else torch.float32
