"""Estimate the peak GPU memory of a training run by component. No GPU has confirmed the estimate yet.

A step goes through its phases (loss, start of the backward pass, backward of a layer, gradient of the embeddings,
optimizer step); the largest is the peak. Sources of the formulas: the code of the pinned releases, and traces of live
tensors at real layer widths (activations.py). What PyTorch reports as allocated is everything but the CUDA context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qdsft.planning.memory import activations, weights
from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Shapes

GIB = 2**30
CONTEXT = GIB // 2
"""CUDA context with loaded kernels, outside of PyTorch's allocator: 0.4 to 0.6 GiB."""
TILE_TOKENS = 4096
TILE_VOCABULARY = 32768
"""TRL's fused loss makes logits in tiles of at most this many positions, and exactly this many columns."""
ZERO_BUCKET = 5 * 10**8
"""Elements of DeepSpeed's reduce bucket, which accelerate leaves at its default."""
ZERO_LIVE = 10**9
"""Elements that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)."""


@dataclass(frozen=True)
class Peak:
    """Peak memory on one GPU."""

    phase: str
    """Phase in which the peak is reached."""
    components: dict[str, int]
    """Component -> bytes at that moment, largest first, including the CUDA context."""
    phases: dict[str, int]
    """Phase -> total bytes, in the order of a step."""
    paged: int = 0
    """Bytes of optimizer states that move to host memory when the GPU is full; not among the components."""

    @property
    def total(self) -> int:
        """Return the total bytes."""
        return sum(self.components.values())

    @property
    def allocated(self) -> int:
        """Return the bytes that PyTorch reports as allocated."""
        return self.total - self.components.get("CUDA context", 0)


def training_peak(shapes: Shapes, setup: Setup) -> Peak:
    """Return the largest phase of a training step, on each of setup.gpus GPUs."""
    fixed, paged = fixed_components(shapes, setup)
    return largest_phase(fixed, _phases(shapes, setup), paged)


def largest_phase(fixed: dict[str, int], phases: dict[str, dict[str, int]], paged: int = 0) -> Peak:
    """Return the peak among phases, each given by its components in bytes in addition to the fixed ones."""
    totals = {name: sum(fixed.values()) + sum(parts.values()) for name, parts in phases.items()}
    phase = max(totals, key=lambda name: totals[name])
    components = sorted((fixed | phases[phase]).items(), key=lambda item: -item[1])
    return Peak(phase, {name: size for name, size in components if size}, totals, paged)


def fixed_components(shapes: Shapes, setup: Setup) -> tuple[dict[str, int], int]:
    """Return the components that are always in memory, and the bytes that may be paged out; ZeRO divides them."""
    trained = sum(weights.trained_tensors(shapes, setup))
    resident, paged = weights.optimizer_bytes(shapes, setup)
    base = sum(weights.weight_parts(shapes, setup).values())
    adapters = 0 if setup.trains_all else trained * (setup.adapter or 0)
    gradients = trained * setup.gradients
    cards = setup.gpus
    parts = {
        "weights": -(-base // cards) if setup.zero == 3 else base,
        "LoRA weights": -(-adapters // cards) if setup.zero == 3 else adapters,
        "gradients": -(-gradients // cards) if setup.zero >= 2 else gradients,
        "optimizer states": -(-resident // cards) if setup.zero >= 1 else resident,
        "buckets between GPUs": _buckets(setup, gradients),
        "CUDA context": CONTEXT,
    }
    return parts, -(-paged // cards) if setup.zero >= 1 else paged


def loss_bytes(shapes: Shapes, setup: Setup) -> int:
    """Return the bytes of logits and gradients of the loss. As an upper bound, every position has loss.

    TRL 1.16 on CUDA: hidden states of the supervised positions, one tile of logits, their gradient in float32, and
    the head's where it is trained. Off Triton the tile is folded by PyTorch, with temporaries in float32.
    """
    positions, hidden = setup.tokens, shapes.hidden
    if setup.materialized_logits:
        return positions * shapes.vocab * (setup.compute + 12)
    tile = min(positions, TILE_TOKENS) * TILE_VOCABULARY * setup.compute
    gathered = positions * hidden * (setup.stream + 4)
    head = 4 * shapes.embedding if setup.trains_all else 0
    columns = min(shapes.vocab, TILE_VOCABULARY)
    while_folding = columns * hidden * setup.compute if setup.stream != setup.compute else 0
    if not setup.cuda:
        folded = 4 * min(positions, TILE_TOKENS) * columns
        while_folding += max(7 * folded, folded + 4 * columns * hidden)
    at_the_end = setup.stream * shapes.embedding if setup.trains_all and setup.stream != 4 else 0
    return tile + gathered + head + max(while_folding, at_the_end)


def _phases(shapes: Shapes, setup: Setup) -> dict[str, dict[str, int]]:
    """Return phase -> its components in bytes, in addition to the fixed ones."""
    layers = activations.kept_by_layers(shapes, setup)
    mask = activations.attention_masks(shapes, setup)
    final = activations.kept_by_final_norm(shapes, setup)
    alive = 1 if setup.checkpointing else shapes.layers
    copies = activations.autocast_copies(shapes, setup, shapes.layers)
    buffer = weights.largest_dequantized(shapes, setup)
    kept = {"attention mask": mask, "weights gathered by ZeRO-3": _gathered(shapes, setup)}
    return {
        "loss": kept
        | {
            "activations": layers + final,
            "logits (loss tile)": loss_bytes(shapes, setup),
            "16-bit copies of weights": copies,
        },
        "start of the backward pass": kept
        | {
            "activations": layers + final + activations.final_norm_backward(shapes, setup),
            "16-bit copies of weights": 0 if setup.checkpointing else copies,
        },
        "backward pass of a layer": kept
        | {
            "activations": layers
            + activations.recomputed_layer(shapes, setup)
            + activations.layer_backward(shapes, setup)
            - activations.beside_dequantized(shapes, setup, buffer),
            "de-quantization buffer": buffer,
            "gradient of one weight": activations.weight_gradient(shapes, setup),
            "16-bit copies of weights": activations.autocast_copies(shapes, setup, alive),
        },
        "scoring held-out rows": _scoring(shapes, setup),
        "gradient of the embeddings": {
            "gradient of one weight": setup.stream * shapes.embedding if setup.trains_all else 0
        },
        "optimizer step": {"temporaries of the optimizer": weights.step_temporaries(shapes, setup)},
    }


def _scoring(shapes: Shapes, setup: Setup) -> dict[str, int]:
    """Return the bytes of a forward pass over per_device_eval_batch_size rows, if training evaluates."""
    if not setup.evaluated:
        return {}
    rows, length = setup.evaluated, setup.length
    if setup.packed:
        rows, length = 1, rows * length
    scored = replace(setup, micro_batch=setup.evaluated)
    return {
        "activations": activations.forward_only(shapes, setup, rows, length),
        "attention mask": activations.attention_masks(shapes, scored),
        "logits (loss tile)": loss_bytes(shapes, scored),
    }


def _buckets(setup: Setup, gradients: int) -> int:
    """Return the bytes of buckets: DDP copies all gradients; ZeRO-2 has one of fixed size, ZeRO-3 two."""
    if setup.gpus == 1 and not setup.zero:
        return 0
    if setup.zero >= 2:
        return ZERO_BUCKET * setup.gradients * (2 if setup.zero == 3 else 1)
    return gradients


def _gathered(shapes: Shapes, setup: Setup) -> int:
    return min(shapes.parameters, ZERO_LIVE) * setup.stream if setup.zero == 3 and setup.gpus > 1 else 0
