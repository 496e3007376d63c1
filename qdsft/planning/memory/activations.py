"""Activations of one micro-batch: tensors that autograd stores for the backward pass, and those it adds there.

The tensors are those that transformers 5.23 and peft 0.21 save, found by tracing live storages at real layer widths
(`test_activations.py` repeats the traces). Every figure is in bytes for a whole micro-batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from qdsft.planning.memory.setup import Setup
from qdsft.planning.memory.shapes import Linear, Shapes

COMPOSED_ACTIVATIONS = {"gelu_new", "gelu_fast", "gelu_accurate", "gelu_python"}
"""Activation functions that consist of several operations, each of which stores a tensor."""


def checkpointed_layers(shapes: Shapes, setup: Setup) -> int:
    """Return the number of layers that store only their input and are recomputed in the backward pass."""
    return -(-shapes.layers // setup.every_n_layers) if setup.checkpointing else 0


def kept_by_layers(shapes: Shapes, setup: Setup) -> int:
    """Return what the decoder layers store until the backward pass: all its tensors, or only their input."""
    recomputed = checkpointed_layers(shapes, setup)
    inputs = recomputed * setup.tokens * setup.stream * shapes.hidden
    whole = sum(layer_saved(shapes, setup, window) for window in shapes.windows[recomputed:])
    rotations = 2 * setup.stream * shapes.head_dim * len(set(shapes.windows))
    return int(inputs + whole + setup.tokens * rotations)


def kept_by_final_norm(shapes: Shapes, setup: Setup) -> int:
    """Return what the final norm stores, and its result; both are freed before the last layer's backward pass."""
    kept = _norm(shapes, setup, shapes.hidden, setup.stream) + setup.stream * shapes.hidden
    return int(setup.tokens * kept)


def recomputed_layer(shapes: Shapes, setup: Setup) -> int:
    """Return what one checkpointed layer stores while its backward pass runs."""
    return max(layer_saved(shapes, setup, window) for window in shapes.windows) if setup.checkpointing else 0


def attention_masks(shapes: Shapes, setup: Setup) -> int:
    """Return the masks [rows, 1, length, length], one per kind of window; boolean, or numbers for eager attention."""
    size = setup.compute if setup.attention == "eager" else 1
    kinds = sum(setup.masked(window) for window in set(shapes.windows))
    return kinds * size * setup.rows * setup.row_length**2


def layer_saved(shapes: Shapes, setup: Setup, window: int | None = None) -> int:
    """Return what one decoder layer stores for its backward pass."""
    parts = (
        _norms(shapes, setup),
        _linear_inputs(shapes, setup),
        _attention(shapes, setup, window),
        _mlp(shapes, setup),
        _adapters(shapes, setup),
    )
    return int(setup.tokens * sum(parts))


def beside_dequantized(shapes: Shapes, setup: Setup, buffer: int) -> int:
    """Return what layer_backward has not allocated yet while a 4-bit weight of `buffer` bytes is de-quantized.

    The MLP's worst moment has the gradients of two inner products. One of them is allocated only after the last
    de-quantized weight has been freed.
    """
    moments = _backward_moments(shapes, setup)
    if setup.bits != 4 or moments.products < moments.others:
        return 0
    return min(setup.tokens * setup.compute * shapes.intermediate, buffer)


def layer_backward(shapes: Shapes, setup: Setup) -> int:
    """Return gradients and temporaries of the worst moment in a layer's backward pass, without the stored tensors.

    For adapters that cast their inputs, the worst moment is in the forward pass, or its recomputation.
    """
    moments = _backward_moments(shapes, setup)
    return int(setup.tokens * (moments.gradients + max(moments.products, moments.others)))


@dataclass(frozen=True)
class _Moments:
    """Bytes per token in the backward pass of a layer."""

    gradients: float
    """In memory all the time."""
    products: float
    """During the products of the MLP."""
    others: float
    """During norms or attention scores, at another time."""


def _backward_moments(shapes: Shapes, setup: Setup) -> _Moments:
    hidden, width = shapes.hidden, shapes.intermediate
    gradients = 3 * setup.stream * hidden
    products = (4 if setup.copies_adapter_inputs else 2) * setup.compute * width
    norm = 20 * hidden if shapes.post_norms else 0
    scores = 0.0
    if setup.attention == "eager":
        freed = _mlp(shapes, setup) + _norm(shapes, setup, hidden, setup.stream) + setup.compute * hidden
        scores = 3 * setup.compute * shapes.heads * setup.row_length - freed
    return _Moments(gradients, products, max(norm, scores))


def weight_gradient(shapes: Shapes, setup: Setup) -> int:
    """Return the largest weight's gradient before it is accumulated, if all weights are trained."""
    if not setup.trains_all:
        return 0
    largest = max(linear.weights for linear in shapes.linears)
    return largest * (setup.stream + (setup.compute if setup.compute != setup.stream else 0))


def autocast_copies(shapes: Shapes, setup: Setup, layers: int) -> int:
    """Return the 16-bit copies of float32 weights and adapters that autocast makes for `layers` layers."""
    if not setup.autocast or setup.compute == 4:
        return 0
    if setup.trains_all:
        return layers * 2 * sum(linear.weights for linear in shapes.linears) * (setup.stream == 4)
    adapters = sum(
        setup.rank(shapes, linear) * (linear.inputs + linear.outputs)
        for linear in shapes.linears
        if setup.is_target(shapes, linear)
    )
    return layers * 2 * adapters * (setup.adapter == 4)


def forward_only(shapes: Shapes, setup: Setup, rows: int, length: int) -> int:
    """Return the temporaries of one layer without gradients: its MLP, the residual stream, a norm, and the mask."""
    compute, hidden = setup.compute, shapes.hidden
    inner = compute * shapes.intermediate * (3 if shapes.gated else 2)
    adapter = 4 * shapes.intermediate if setup.adapter == 4 or setup.bits else 0
    mask = rows * length**2 * (1 + compute) if rows > 1 else 0
    scores = rows * shapes.heads * length**2 * (4 + compute) if setup.attention == "eager" else 0
    return rows * length * (inner + adapter + hidden * (3 * compute + 4)) + mask + scores


def final_norm_backward(shapes: Shapes, setup: Setup) -> int:
    """Return the first step of the backward pass: five float32 temporaries of an RMSNorm, and the incoming gradient."""
    temporaries = 20 if shapes.norm != "layer" else 8
    return int(setup.tokens * shapes.hidden * (temporaries + setup.stream))


def _norm(shapes: Shapes, setup: Setup, width: int, source: int) -> float:
    """Return what a norm over `width` elements of `source` bytes stores: its input and, if trained, its output."""
    if shapes.norm == "layer":
        # CUDA's autocast computes layer_norm in float32, from a copy of its input; a CPU's does not.
        copied = setup.cuda and setup.autocast and source == 2
        return (4 if copied else source) * width + 2 * source
    trained = 0 if not setup.trains_all else 4 if shapes.norm == "rms_float" else source
    return (4 + trained) * width + 4 * width / shapes.hidden


def _norms(shapes: Shapes, setup: Setup) -> float:
    shared = shapes.parallel and not (setup.cuda and setup.autocast and setup.stream == 2)
    before = _norm(shapes, setup, shapes.hidden, setup.stream) * (1 if shared else 2)
    after = 2 * _norm(shapes, setup, shapes.hidden, setup.compute) if shapes.post_norms else 0
    per_head = 0.0
    if shapes.qk_norm:
        trained = 0 if not setup.trains_all else 4 if shapes.norm == "rms_float" else setup.compute
        per_head = (4 + trained) * (shapes.query_width + shapes.kv_width) + 4 * (shapes.heads + shapes.kv_heads)
    return before + after + per_head


def _linear_inputs(shapes: Shapes, setup: Setup) -> float:
    """Return the norms' outputs, stored as inputs of the linear layers that read them."""
    reading = [linear for linear in shapes.linears if linear.inputs == shapes.hidden and not _reads_kept(linear)]
    kept = [linear for linear in reading if setup.trains_all or setup.is_target(shapes, linear)]
    if setup.lora.get("lora_dropout"):
        return 0.0  # each adapter keeps its own, see _adapters
    if setup.copies_adapter_inputs or (setup.autocast and setup.stream > setup.compute):
        return float(setup.compute * shapes.hidden * len(kept))
    sources = {linear.path.partition(".")[0] for linear in kept}  # one norm before attention, one before the MLP
    return float(setup.compute * shapes.hidden * len(sources))


def _attention(shapes: Shapes, setup: Setup, window: int | None) -> float:
    query, kv, compute = shapes.query_width, shapes.kv_width, setup.compute
    masked = setup.masked(window)
    repeated = 1 < shapes.kv_heads < shapes.heads and (
        setup.attention == "eager" or (setup.attention == "sdpa" and masked)
    )
    keys = query if repeated else kv
    # The value is a part of the fused projection and keeps all of it alive.
    values = query + 2 * kv if shapes.fused else keys
    out = query * (2 if shapes.fused and setup.attention != "eager" else 1)
    kept = compute * (query + keys + values + out)
    if setup.attention == "eager":
        # Scores after softmax in float32, and once more in the format of the product with the values.
        return kept + shapes.heads * setup.row_length * (4 if compute == 4 else 4 + compute)
    mask = compute * setup.row_length if masked else 0  # each layer converts the boolean mask to numbers
    return kept + 4 * shapes.heads + mask


def _mlp(shapes: Shapes, setup: Setup) -> float:
    width = setup.compute * shapes.intermediate
    last = shapes.linears[-1]
    # The last product's input; an adapter with dropout, or in another format, keeps its own copy.
    product = setup.trains_all or (setup.is_target(shapes, last) and not setup.lora.get("lora_dropout"))
    inner = 3 if shapes.gated else 1
    composed = 3 if shapes.activation in COMPOSED_ACTIVATIONS else 0
    return float(width * (inner + composed + product))


def _adapters(shapes: Shapes, setup: Setup) -> float:
    total = 0.0
    for linear in shapes.linears:
        if not setup.is_target(shapes, linear):
            continue
        total += setup.compute * setup.rank(shapes, linear)
        if setup.lora.get("lora_dropout"):
            # What was left of the input, and which elements: a boolean on CUDA, numbers on a CPU.
            total += linear.inputs * (setup.compute + (1 if setup.cuda else setup.compute))
        elif setup.copies_adapter_inputs and linear.name == "o_proj":  # a fused layout has a copy already
            total += setup.compute * linear.inputs
    return total


def _reads_kept(linear: Linear) -> bool:
    """Return whether the layer reads the result of attention or MLP, which is stored anyway."""
    return linear.name in {"o_proj", "dense", "down_proj", "dense_4h_to_h"}
