"""Derive the shapes of a model's weights from its config.json, without downloading or building the model.

Facts that config.json does not contain (such as which linear layers have a bias) are in architectures.json by
`model_type`. A text there names the field with the value, and `defaults` holds the values of missing fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qdsft.data.record import short_json
from qdsft.errors import UserError


@dataclass(frozen=True)
class Linear:
    """One linear layer of a decoder layer; its weight is [outputs, inputs]."""

    path: str
    """Name inside the decoder layer, such as self_attn.q_proj."""
    inputs: int
    outputs: int
    bias: bool

    @property
    def name(self) -> str:
        """The last part of its path, which is what target_modules lists."""
        return self.path.rpartition(".")[2]

    @property
    def weights(self) -> int:
        """Elements of the weight, without the bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Shapes:
    """Dimensions of a decoder-only model whose layers are all alike."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int | None
    tied: bool
    """Whether the output head is the embedding matrix."""
    linears: tuple[Linear, ...]
    """Of one decoder layer, in the order of their use."""
    layer_norms: tuple[int, ...]
    """Elements of the norm parameters of one decoder layer, with biases as separate entries."""
    final_norms: tuple[int, ...]
    norm: str
    """rms, rms_float (its weight is applied in float32) or layer (with mean and bias)."""
    qk_norm: bool
    post_norms: bool
    """Whether attention and MLP have norms on their outputs, too."""
    parallel: bool
    """Whether attention and MLP read the same residual stream."""
    fused: bool
    """Whether one linear layer makes queries, keys and values."""
    activation: str
    windows: tuple[int | None, ...]
    """Attention window of each layer in tokens, None for all of them."""
    prefix: str
    """Prefix of the decoder layers: `<prefix>.<number>.<path of a linear layer>`."""
    default_targets: tuple[str, ...]
    """Layers that PEFT adapts without lora.target_modules."""

    @property
    def query_width(self) -> int:
        """heads x head_dim, which need not be the hidden size."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """kv_heads x head_dim."""
        return self.kv_heads * self.head_dim

    @property
    def gated(self) -> bool:
        """Whether the MLP multiplies two projections."""
        return not self.fused

    @property
    def embedding(self) -> int:
        """Elements of the embedding matrix, [vocab, hidden]."""
        return self.vocab * self.hidden

    @property
    def head(self) -> int:
        """Elements of the output head; 0 if it is tied to the embedding."""
        return 0 if self.tied else self.embedding

    @property
    def layer_parameters(self) -> int:
        """Elements of one decoder layer."""
        return sum(linear.weights + linear.bias * linear.outputs for linear in self.linears) + sum(self.layer_norms)

    @property
    def parameters(self) -> int:
        """Elements of the whole model, tied weights once."""
        return self.embedding + self.head + self.layers * self.layer_parameters + sum(self.final_norms)

    def tensors(self) -> Iterator[int]:
        """Elements of every parameter tensor, tied ones once."""
        yield self.embedding
        for _ in range(self.layers):
            for linear in self.linears:
                yield linear.weights
                if linear.bias:
                    yield linear.outputs
            yield from self.layer_norms
        yield from self.final_norms
        if self.head:
            yield self.head


@cache
def architectures() -> dict[str, dict[str, Any]]:
    """Return `model_type` -> the facts that its config.json does not contain."""
    path = Path(__file__).with_name("architectures.json")
    known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return known


def read_shapes(config: Mapping[str, Any], where: str) -> Shapes:
    """Return the shapes that a config.json describes; `where` names the file in errors.

    Raises UserError for a `model_type` that is not listed and for sizes that are missing or impossible.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in architectures():
        raise UserError(
            f"{where}: model_type {kind!r} has no entry in {Path(__file__).with_name('architectures.json')}; "
            f"add one, as for {', '.join(architectures())}"
        )
    facts: dict[str, Any] = {"parallel": None, "qk_norm": False, "post_norms": False, **architectures()[kind]}
    config = {**facts.get("defaults", {}), **{key: value for key, value in config.items() if value is not None}}
    sizes = _Sizes(config, where)
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    kv_heads = sizes.get("num_key_value_heads", heads)
    head_dim = sizes.get("head_dim", hidden // heads)
    layers, width = sizes["num_hidden_layers"], sizes["intermediate_size"]
    fused = facts["layout"] == "fused"

    def flag(key: str) -> bool:
        value = facts.get(key, False)
        return bool(config.get(value, False) if isinstance(value, str) else value)

    if heads % kv_heads:
        raise UserError(f"{where}: num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
    biases = flag("qkv_bias"), flag("output_bias"), flag("mlp_bias")
    linears = (_fused if fused else _separate)(hidden, width, heads * head_dim, kv_heads * head_dim, *biases)
    norm = (hidden, hidden) if facts["norm"] == "layer" else (hidden,)
    return Shapes(
        vocab=sizes["vocab_size"],
        hidden=hidden,
        intermediate=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        positions=sizes.get("max_position_embeddings", 0) or None,
        tied=bool(config.get("tie_word_embeddings", False)),
        linears=linears,
        layer_norms=norm * (4 if facts["post_norms"] else 2) + (head_dim, head_dim) * facts["qk_norm"],
        final_norms=norm,
        norm=facts["norm"],
        qk_norm=facts["qk_norm"],
        post_norms=facts["post_norms"],
        parallel=bool(config.get(facts["parallel"], True)) if facts["parallel"] else False,
        fused=fused,
        activation=str(config.get("hidden_act") or config.get("hidden_activation") or ""),
        windows=_windows(config, layers, sizes.get("sliding_window", 0)),
        prefix=facts["prefix"],
        default_targets=("query_key_value",) if fused else ("q_proj", "v_proj"),
    )


LARGEST, MOST_LAYERS = 100_000_000, 10_000
"""Larger than any model; larger values are mistakes, and would take forever to process."""


class _Sizes:
    """Whole numbers above 0 of a config."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config, self._where = config, where

    def __getitem__(self, key: str) -> int:
        value = self._config.get(key)
        most = MOST_LAYERS if key == "num_hidden_layers" else LARGEST
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < most:
            raise UserError(
                f"{self._where}: {key} is {short_json(value)}, and should be a whole number up to {most:,}; "
                "check the file"
            )
        return value

    def get(self, key: str, default: int) -> int:
        return default if self._config.get(key) is None else self[key]


def _separate(hidden: int, width: int, query: int, kv: int, qkv: bool, out: bool, mlp: bool) -> tuple[Linear, ...]:
    return (
        Linear("self_attn.q_proj", hidden, query, qkv),
        Linear("self_attn.k_proj", hidden, kv, qkv),
        Linear("self_attn.v_proj", hidden, kv, qkv),
        Linear("self_attn.o_proj", query, hidden, out),
        Linear("mlp.gate_proj", hidden, width, mlp),
        Linear("mlp.up_proj", hidden, width, mlp),
        Linear("mlp.down_proj", width, hidden, mlp),
    )


def _fused(hidden: int, width: int, query: int, kv: int, qkv: bool, out: bool, mlp: bool) -> tuple[Linear, ...]:
    return (
        Linear("attention.query_key_value", hidden, query + 2 * kv, qkv),
        Linear("attention.dense", query, hidden, out),
        Linear("mlp.dense_h_to_4h", hidden, width, mlp),
        Linear("mlp.dense_4h_to_h", width, hidden, mlp),
    )


def _windows(config: Mapping[str, Any], layers: int, window: int) -> tuple[int | None, ...]:
    """Return the windows as transformers reads them: `layer_types`, a pattern, or one window for all layers."""
    if not window or config.get("use_sliding_window") is False:
        return (None,) * layers
    kinds = config.get("layer_types")
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    if not kinds and pattern:
        kinds = ["sliding_attention" if (number + 1) % pattern else "full_attention" for number in range(layers)]
    if kinds:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    return (window,) * layers
