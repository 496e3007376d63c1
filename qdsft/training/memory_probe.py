"""Measure the peak memory before training, with two optimizer steps and an evaluation step on the longest rows."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pyarrow.compute as compute
import torch
from datasets import Dataset
from torch.nn.parallel import DistributedDataParallel

from qdsft.errors import UserError
from qdsft.model.device import fork_rng
from qdsft.model.device_errors import device_errors, less_memory
from qdsft.recipe import Recipe
from qdsft.training.trainer import RecipeTrainer

STEPS = 2
"""The first step creates the optimizer states; the second shows the peak with them."""


def probe_memory(trainer: RecipeTrainer, recipe: Recipe) -> float | None:
    """Return the peak memory in GiB on CUDA, None elsewhere, of training, evaluating and decoding the longest rows.

    Decodes only with evaluation.every_steps. Changes neither weights, random state, logged counts nor optimizer: the
    probe's optimizer has a learning rate of 0 and is discarded. Raises UserError, with the remedy, if the device runs
    out of memory or the loss is not finite.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    stage = f"training on the longest rows of {recipe.path}"
    with device_errors(stage, less_memory(recipe)), fork_rng(), _untouched(trainer):
        _steps(trainer)
    return round(torch.cuda.max_memory_allocated() / 2**30, 3) if torch.cuda.is_available() else None


def longest_rows(data: Dataset, count: int) -> list[dict[str, Any]]:
    """Return the rows with the most tokens, the longest first."""
    lengths = np.asarray(compute.list_value_length(data.data.table["input_ids"]))
    return [data[int(i)] for i in np.argsort(-lengths, kind="stable")[:count]]


def _steps(trainer: RecipeTrainer) -> None:
    arguments = trainer.args
    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    trainer.model.train()
    rows = longest_rows(trainer.train_dataset, arguments.per_device_train_batch_size)
    model = as_trained(trainer)
    # Without the sums over the processes: one that runs out of memory here would leave the others waiting.
    with model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext():
        for _ in range(STEPS):
            loss: Any = _loss(trainer, model, rows)
            loss.backward()  # not scaled for float16: infinite gradients times a rate of 0 would be NaN
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    if trainer.eval_dataset is not None:
        trainer.model.eval()
        with torch.no_grad():
            _loss(trainer, trainer.model, longest_rows(trainer.eval_dataset, arguments.per_device_eval_batch_size))
    if trainer.held_out is not None:
        trainer.held_out.decode_longest(trainer)


def as_trained(trainer: RecipeTrainer) -> Any:
    """Return the model as training calls it: with several processes in DDP, whose buckets hold all gradients again."""
    if trainer.args.world_size == 1:
        return trainer.model
    device = trainer.args.device
    places = [device] if device.type == "cuda" else None
    # Every process has read the same weights. To compare them again would send them all once more.
    return DistributedDataParallel(trainer.model, device_ids=places, broadcast_buffers=False, init_sync=False)


def _loss(trainer: RecipeTrainer, model: Any, rows: Sequence[dict[str, Any]]) -> torch.Tensor:
    inputs = trainer._prepare_inputs(trainer.data_collator(list(rows)))
    with trainer.compute_loss_context_manager():
        loss: torch.Tensor = trainer.compute_loss(model, inputs)
    if not torch.isfinite(loss):
        raise UserError(
            f"the loss of the longest rows is {loss.item()} before training; use model.dtype: bfloat16 or float32"
        )
    return loss


@contextmanager
def _untouched(trainer: RecipeTrainer) -> Iterator[None]:
    """Restore everything that the steps change, and assert that they did not change the weights."""
    metrics, tokens = copy.deepcopy(trainer._metrics), trainer._total_train_tokens
    trainable = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    before = [_digest(weight) for weight in trainable]
    training = trainer.model.training
    try:
        yield
        moved = sum(digest != _digest(weight) for digest, weight in zip(before, trainable, strict=True))
        assert not moved, f"{moved} weights changed with a learning rate of 0"
    finally:
        trainer.optimizer = None
        for weight in trainable:
            weight.grad = None
        trainer.model.train(training)
        trainer._metrics, trainer._total_train_tokens = metrics, tokens
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _digest(weight: torch.Tensor) -> tuple[float, float]:
    values = weight.detach()
    return float(values.sum(dtype=torch.float64)), float(values.abs().sum(dtype=torch.float64))
