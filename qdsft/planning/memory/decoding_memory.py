"""Estimate the memory of `qdsft evaluate` on one GPU, and the host memory and disk that saving needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qdsft.planning.memory import weights
from qdsft.planning.memory.activations import forward_only
from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes
from qdsft.planning.memory.training_memory import CONTEXT, Peak, largest_phase
from qdsft.recipe import Recipe

LARGEST_SHARD = 50 * 10**9
"""Bytes of one file of weights (transformers' max_shard_size), which is assembled in host memory."""


@dataclass(frozen=True)
class Saving:
    """Host memory and disk space for saving, in bytes."""

    host: int
    """Host memory for one file, in addition to the process itself."""
    result: int
    """The saved adapter or model."""
    checkpoint: int
    """One checkpoint, optimizer states included."""
    kept: int
    """Checkpoints on disk at the same time, including the one being written."""

    @property
    def disk(self) -> int:
        """Return the largest number of bytes on disk."""
        return self.result + self.kept * self.checkpoint


def decoding_peak(shapes: Shapes, setup: Setup, *, rows: int, prompt: int, new_tokens: int) -> Peak:
    """Return the peak of decoding `rows` rows together, each with `prompt` tokens and `new_tokens` new ones.

    The prompt is computed at once, then token by token with a cache of keys and values; only the last position is
    projected onto the vocabulary. Scoring the loss afterwards takes one row at a time, with its logits in float32.
    """
    # Nothing is trained: weights are 16-bit even if training keeps them in 32, and adapters have PEFT's float32.
    loaded = replace(setup, stream=setup.compute, gpus=1, zero=0)
    adapters = 0 if setup.trains_all else 4 * sum(weights.adapter_tensors(shapes, setup))
    base = sum(weights.weight_parts(shapes, loaded).values())
    fixed = {
        "weights": base,
        "LoRA weights": adapters,
        "de-quantization buffer": weights.largest_dequantized(shapes, setup),
        "CUDA context": CONTEXT,
    }
    cache = key_value_cache(shapes, setup, rows, prompt + new_tokens)
    phases = {
        "prompt": {
            "activations": forward_only(shapes, setup, rows, prompt),
            "keys and values": key_value_cache(shapes, setup, rows, prompt),
            "logits": rows * shapes.vocab * (setup.compute + 4),
        },
        "last token": {
            "activations": forward_only(shapes, setup, rows, 1),
            # The cache grows by copying, so one layer's is in memory twice.
            "keys and values": cache + -(-cache // shapes.layers),
            "logits": rows * shapes.vocab * (setup.compute + 4),
        },
        "loss": {
            "activations": forward_only(shapes, setup, 1, prompt + new_tokens),
            "logits": (new_tokens + 1) * shapes.vocab * (setup.compute + 8),
        },
    }
    return largest_phase(fixed, phases)


def key_value_cache(shapes: Shapes, setup: Setup, rows: int, length: int) -> int:
    """Return the bytes of keys and values of all layers; a layer with a window keeps at most that many tokens."""
    tokens = sum(length if window is None else min(length, window) for window in shapes.windows)
    return 2 * setup.compute * shapes.kv_width * rows * tokens


def saving(recipe: Recipe, shapes: Shapes, setup: Setup, steps: int | None) -> Saving:
    """Return what the checkpoints and the result of a run of `steps` steps need."""
    trained = sum(weights.trained_tensors(shapes, setup))
    size = setup.stream if setup.trains_all else setup.adapter or 0
    result = trained * size
    checkpoint = result + sum(weights.optimizer_bytes(shapes, setup))
    return Saving(min(result, LARGEST_SHARD), result, checkpoint, _kept(recipe, steps))


def _kept(recipe: Recipe, steps: int | None) -> int:
    strategy, limit = recipe.training_value("save_strategy"), recipe.training_value("save_total_limit")
    if strategy == "no":
        return 0
    written = math.ceil(recipe.training_value("num_train_epochs"))
    if strategy == "steps":
        every = recipe.training_value("save_steps")
        total = steps or 1
        written = math.ceil(1 / every) if every < 1 else max(total // int(every), 1)
    # An old checkpoint is deleted after the new one is written.
    return int(min(written, limit + 1) if limit else written)
