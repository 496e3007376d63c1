"""Cases of models that others made: config, tokenizer, weights and adapters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from helpers.corpus.case import (
    LFS,
    WRONG,
    Case,
    Damage,
    edited,
    removed,
    replaced,
    spoiled,
    spoiled_json,
    together,
    with_value,
    without,
)
from safetensors.torch import load_file, save

RUN = "runs/adapter"
INSPECT = ("inspect", "recipe.yaml")
PLAN = ("plan", "recipe.yaml")
DECOMPOSE = ("decompose", RUN, "a?")
CONFIG_KEYS = (
    "model_type",
    "architectures",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "intermediate_size",
    "max_position_embeddings",
    "rope_parameters",
    "rms_norm_eps",
    "hidden_act",
    "eos_token_id",
    "tie_word_embeddings",
    "quantization_config",
    "auto_map",
    "dtype",
    "layer_types",
)
ADAPTER_KEYS = (
    "r",
    "lora_alpha",
    "target_modules",
    "peft_type",
    "task_type",
    "lora_dropout",
    "rank_pattern",
    "modules_to_save",
    "init_lora_weights",
    "bias",
    "layers_to_transform",
    "auto_mapping",
)
PICKLE = b"cposix\nsystem\n(S'touch executed'\ntR."


def _configs() -> Iterator[Case]:
    file = "base/config.json"
    for name, damage in spoiled_json(file).items():
        yield Case("config.json", f"inspect: {name}", INSPECT, damage, ("base", "recipe.yaml"))
        yield Case("config.json", f"decompose: {name}", DECOMPOSE, damage, ("base", RUN))
        yield Case("config.json", f"plan: {name}", PLAN, damage, ("base", "recipe.yaml"))
    for number, key in enumerate(CONFIG_KEYS):
        for offset in (1, 5):
            value = WRONG[(number + offset) % len(WRONG)]
            name = f"{key} = {value!r:.20}"
            damage = with_value(file, (key,), value)
            yield Case("config.json", f"inspect: {name}", INSPECT, damage, ("base",), None)
            if offset == 1:  # a plan that succeeds takes seconds
                yield Case("config.json", f"plan: {name}", PLAN, damage, ("base", "recipe.yaml"), None)
    for key in ("hidden_size", "vocab_size", "num_hidden_layers", "hidden_act"):
        damage = with_value(file, (key,), 0 if key != "hidden_act" else "nope")
        yield Case("config.json", f"preflight: {key}", ("preflight", "recipe.yaml"), damage, ("base",))


def _tokenizers() -> Iterator[Case]:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        for name, damage in spoiled_json(f"base/{file}").items():
            yield Case("tokenizer", f"{file}: {name}", INSPECT, damage, ("base",), None)
    for name, damage in spoiled_json("base/generation_config.json").items():
        yield Case("tokenizer", f"generation_config.json: {name}", INSPECT, damage, ("base",), None)
    for number, key in enumerate(
        (
            "tokenizer_class",
            "eos_token",
            "bos_token",
            "pad_token",
            "added_tokens_decoder",
            "model_max_length",
            "extra_special_tokens",
            "chat_template",
        )
    ):
        for offset in (0, 4):
            value = WRONG[(number + offset) % len(WRONG)]
            damage = with_value("base/tokenizer_config.json", (key,), value)
            yield Case(
                "tokenizer", f"{key} = {value!r:.20}", INSPECT, damage, ("base", "template", "recipe.yaml"), None
            )
    for key, value in (
        ("model", {"type": "Future"}),
        ("model", None),
        ("version", "9.0"),
        ("pre_tokenizer", {"type": "Future"}),
        ("decoder", 3),
        ("added_tokens", {}),
        ("normalizer", []),
    ):
        damage = with_value("base/tokenizer.json", (key,), value)
        yield Case("tokenizer", f"{key} = {value!r:.20}", INSPECT, damage, ("base",), None)
    for name, folder, command in (
        ("preflight", "base", ("preflight", "recipe.yaml")),
        ("decompose", f"{RUN}/adapter", DECOMPOSE),
    ):
        beyond = edited(f"{folder}/tokenizer.json", _with_token_beyond)
        yield Case("tokenizer", f"{name}: a token beyond the embedding", command, beyond, ("base", RUN))
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        for name in ("cut", "missing", "CP949", "an LFS pointer", "binary"):
            damage = spoiled(f"{RUN}/adapter/{file}")[name]
            yield Case("tokenizer", f"of a run: {file}: {name}", DECOMPOSE, damage, (RUN,), None)


def _with_token_beyond(content: bytes) -> bytes:
    """Add a word of the questions as a token that the model has no embedding for."""
    tokenizer = json.loads(content)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    for number, word in enumerate(("old", "a?")):
        tokenizer["added_tokens"].append({"id": 900_000 + number, "content": word, **flags})
    return json.dumps(tokenizer).encode("utf-8")


def _tensors(file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        replaced(file, save(change(tensors), {"format": "pt"}))(folder)

    return damage


def _first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {
        name: change(tensor) if not number else tensor for number, (name, tensor) in enumerate(tensors.items())
    }


TENSORS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "NaN": _first(lambda tensor: torch.full_like(tensor, torch.nan)),
    "another shape": _first(lambda tensor: tensor.flatten()[:-1].contiguous()),
    "integers": _first(lambda tensor: tensor.to(torch.int8)),
    "no tensors": lambda tensors: {},
    "a tensor less": lambda tensors: dict(list(tensors.items())[1:]),
    "a tensor more": lambda tensors: {**tensors, "nope": torch.ones(1)},
    "other names": lambda tensors: {f"x.{name}": tensor for name, tensor in tensors.items()},
}


def _status(name: str) -> int | None:
    """Return the expected status: integers may hold the same values, and a tensor more belongs to no module."""
    return None if name in {"integers", "a tensor more"} else 1


def _bin(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _weights() -> Iterator[Case]:
    file = "base/model.safetensors"
    preflight = ("preflight", "recipe.yaml")
    for name, damage in spoiled(file).items():
        yield Case("weights", f"safetensors: {name}", preflight, damage, ("base",))
    for name, change in TENSORS.items():
        yield Case(
            "weights",
            f"safetensors: {name}",
            preflight,
            _tensors(file, change),
            ("base",),
            _status(name),
        )
    header = replaced(file, (2**62).to_bytes(8, "little") + b"{}")
    yield Case("weights", "a header of 2^62 bytes", preflight, header, ("base",))
    for name, content in {
        "a pickle": PICKLE,
        "a text": b"hello",
        "empty": b"",
        "an LFS pointer": LFS,
        "a list": _bin([1]),
        "numbers": _bin({"model.norm.weight": 3}),
        "cut": _bin({"a": torch.ones(99)})[:99],
    }.items():
        damage = together(removed(file), replaced("base/pytorch_model.bin", content))
        yield Case("weights", f".bin: {name}", preflight, damage, ("base",))
    yield Case(
        "weights",
        "--overwrite: an LFS pointer",
        ("train", "recipe.yaml", "--overwrite"),
        replaced(file, LFS),
        ("base",),
    )
    index = "base/model.safetensors.index.json"
    for name, text in {
        "no map": "{}",
        "a list": "[]",
        "no file": '{"weight_map": {"a": "b.safetensors"}}',
        "cut": '{"w',
        "numbers": '{"metadata": 3, "weight_map": {"a": 3}}',
        "a path": '{"weight_map": {"a": "../rows.jsonl"}}',
    }.items():
        damage = together(removed(file), replaced(index, text))
        yield Case("weights", f"index: {name}", preflight, damage, ("base",))
        yield Case(
            "weights", f"merge: index: {name}", ("merge", RUN, "--output", "out", "--no-check"), damage, ("base",)
        )


def _adapters() -> Iterator[Case]:
    config, weights = f"{RUN}/adapter/adapter_config.json", f"{RUN}/adapter/adapter_model.safetensors"
    for name, damage in spoiled_json(config).items():
        yield Case("adapter", f"decompose: config: {name}", DECOMPOSE, damage, (RUN,))
    for name in ("null", "cut", "a list", "no keys"):
        yield Case(
            "adapter", f"merge: config: {name}", ("merge", RUN, "--output", "out"), spoiled_json(config)[name], (RUN,)
        )
    for number, key in enumerate(ADAPTER_KEYS):
        value = WRONG[(number * 2 + 2) % len(WRONG)]
        yield Case("adapter", f"{key} = {value!r:.20}", DECOMPOSE, with_value(config, (key,), value), (RUN,), None)
    yield Case("adapter", "no peft_type", DECOMPOSE, without(config, ("peft_type",)), (RUN,))
    for name, damage in spoiled(weights).items():
        yield Case("adapter", f"weights: {name}", DECOMPOSE, damage, (RUN,))
    for name, change in TENSORS.items():
        damage = _tensors(weights, change)
        yield Case("adapter", f"weights: {name}", DECOMPOSE, damage, (RUN,), _status(name))
        yield Case(
            "adapter",
            f"merge: {name}",
            ("merge", RUN, "--output", "out"),
            damage,
            (RUN,),
            _status(name),
        )
    for name, damage in spoiled("runs/whole/model/model.safetensors").items():
        if name in {"cut", "missing", "an LFS pointer", "zeros"}:
            yield Case("adapter", f"whole model: {name}", ("decompose", "runs/whole", "a?"), damage, ("runs/whole",))
    newer = edited(config, lambda content: json.dumps({**json.loads(content), "a_key_of_the_future": 1}).encode())
    yield Case("adapter", "an unknown key", DECOMPOSE, newer, (RUN,), None)


def model_cases() -> Iterator[Case]:
    """Yield the cases of foreign models."""
    yield from _configs()
    yield from _tokenizers()
    yield from _weights()
    yield from _adapters()
