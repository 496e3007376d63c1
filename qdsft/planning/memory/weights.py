"""Bytes that stay in memory for the whole run: weights, adapters, gradients, optimizer states."""

from __future__ import annotations

from collections.abc import Iterator

from qdsft.planning.memory.setup import EMBEDDINGS, HEADS, Setup
from qdsft.planning.memory.shapes import Linear, Shapes

BLOCK = 64
"""Weights that share a scale in 4-bit storage (bitsandbytes' default, which transformers keeps)."""
NESTED_BLOCK = 256
"""Scales that share a scale in double quantization."""
TABLES = 64 + 1024 + 4
"""Code tables and offset of a doubly quantized tensor."""
SMALLEST_8BIT = 4096
"""Elements below which bitsandbytes keeps an optimizer state in float32."""
SMALLEST_PAGED = 100_000
"""Elements below which bitsandbytes does not page an optimizer state out."""
SCALES = 4 / 256
"""Scales of 8-bit optimizer states, in bytes an element."""


def weight_parts(shapes: Shapes, setup: Setup) -> dict[str, int]:
    """Return the bytes of the base model by part, before ZeRO.

    Only linear layers of decoder layers are quantized: bitsandbytes leaves embeddings and the output head alone.
    """
    quantized = [linear for linear in shapes.linears if setup.bits and linear.name not in setup.unquantized]
    plain = [linear for linear in shapes.linears if linear not in quantized]
    biases = sum(linear.outputs for linear in shapes.linears if linear.bias)
    vectors = shapes.layers * (biases + sum(shapes.layer_norms)) + sum(shapes.final_norms)
    parts = {
        "quantized linear layers": shapes.layers * sum(_packed(linear, setup) for linear in quantized),
        "their scales": shapes.layers * sum(_scales(linear, setup) for linear in quantized),
        "linear layers": shapes.layers * sum(linear.weights for linear in plain) * setup.stream,
        "embeddings": shapes.embedding * setup.stream,
        "output head": shapes.head * setup.stream,
        "norms and biases": vectors * setup.stream,
    }
    return {name: size for name, size in parts.items() if size}


def adapter_tensors(shapes: Shapes, setup: Setup) -> Iterator[int]:
    """Yield the elements of each LoRA tensor, and of each fully trained module."""
    if setup.trains_all:
        return
    for linear in shapes.linears:
        if not setup.is_target(shapes, linear):
            continue
        rank = setup.rank(shapes, linear)
        for _ in range(shapes.layers):
            yield rank * linear.inputs
            yield rank * linear.outputs
            if setup.lora.get("lora_bias"):
                yield linear.outputs
            if setup.lora.get("use_dora"):
                yield linear.outputs
    for name in setup.lora.get("modules_to_save") or ():
        if name in EMBEDDINGS or name in HEADS:
            yield shapes.embedding


def trained_tensors(shapes: Shapes, setup: Setup) -> Iterator[int]:
    """Yield the elements of each tensor that the optimizer updates."""
    return shapes.tensors() if setup.trains_all else adapter_tensors(shapes, setup)


def optimizer_bytes(shapes: Shapes, setup: Setup) -> tuple[int, int]:
    """Return the optimizer states' bytes on the GPU and bytes that may be paged to host memory, before ZeRO."""
    moments = _moments(setup.optimizer)
    paged_optimizer = setup.optimizer.startswith("paged_")
    resident = paged = 0.0
    for elements in trained_tensors(shapes, setup):
        size = elements * (moments * _bytes_per_moment(setup.optimizer, elements) + setup.master)
        if paged_optimizer and elements >= SMALLEST_PAGED:
            paged += size
        else:
            resident += size
    return int(resident), int(paged)


def step_temporaries(shapes: Shapes, setup: Setup) -> int:
    """Return the temporary bytes of an optimizer step: PyTorch's AdamW takes the root of all second moments."""
    if setup.optimizer != "adamw_torch" or setup.zero:
        return 0
    return 4 * sum(trained_tensors(shapes, setup))


def largest_dequantized(shapes: Shapes, setup: Setup) -> int:
    """Return the bytes of the largest de-quantized weight; weights are de-quantized one at a time."""
    quantized = [linear.weights for linear in shapes.linears if setup.bits and linear.name not in setup.unquantized]
    return max(quantized, default=0) * setup.dequantized


def _packed(linear: Linear, setup: Setup) -> int:
    return linear.weights if setup.bits == 8 else -(-linear.weights // 2)


def _scales(linear: Linear, setup: Setup) -> int:
    if setup.bits == 8:
        return 4 * linear.outputs
    blocks = -(-linear.weights // BLOCK)
    if not setup.double_quant:
        return 4 * blocks + 64
    return blocks + 4 * -(-blocks // NESTED_BLOCK) + TABLES


def _moments(optimizer: str) -> int:
    """Return states per element; Adafactor keeps only rows and columns, less than a thousandth."""
    if any(part in optimizer for part in ("ademamix", "grokadamw")):
        return 3
    if any(part in optimizer for part in ("adam", "apollo", "galore_a")) and "adafactor" not in optimizer:
        return 0 if "adalomo" in optimizer else 2
    if any(part in optimizer for part in ("lion", "rmsprop", "adagrad", "schedule_free_sgd")):
        return 1
    return 0 if any(part in optimizer for part in ("sgd", "lomo", "adafactor")) else 2


def _bytes_per_moment(optimizer: str, elements: int) -> float:
    if "8bit" in optimizer:
        return 1 + SCALES if elements >= SMALLEST_8BIT else 4.0
    return 0.5 + SCALES if "4bit" in optimizer else 4.0
