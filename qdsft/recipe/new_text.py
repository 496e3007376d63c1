"""The text of the recipes that `qdsft recipe --new` writes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from qdsft.recipe.schema import SCHEMA

TOKENS_A_STEP = 8192
"""Tokens of an optimizer step in every method, so that their results can be compared."""
QUANTIZATION = """quantization:
  load_in_4bit: true
  bnb_4bit_quant_type: nf4
  bnb_4bit_use_double_quant: true
  bnb_4bit_compute_dtype: bfloat16
"""
OTHER_VALUES = {"true", "false", "yes", "no", "on", "off", "null", "nan", "inf"}
"""Words that YAML readers take for something other than text."""


@dataclass(frozen=True)
class NewModel:
    """What a recipe says about its model."""

    name_or_path: str
    folder: str
    """The recipe folder, as a path from the working directory."""
    targets: Sequence[str]
    """Names of the linear layers that get an adapter."""
    longest: int | None = None
    """Positions of the model; None if it has no limit."""
    chat_template: str | None = None
    """Jinja file beside the recipe; None for the tokenizer's own template."""
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Method:
    """A recipe of the folder: where it runs, and the values that differ between methods."""

    purpose: str
    quantized: bool
    max_length: int
    optim: str
    checkpointing: str
    decoding_batch: int


METHODS = {
    "qlora_8gb": Method(
        "QLoRA on one 8 GB GPU: 4-bit weights, one packed row at a time",
        quantized=True,
        max_length=1024,
        optim="adamw_8bit",
        checkpointing="true",
        decoding_batch=4,
    ),
    "qlora": Method(
        "QLoRA on one 24 GB GPU: activations are recomputed only where memory requires it",
        quantized=True,
        max_length=2048,
        optim="adamw_8bit",
        checkpointing="auto",
        decoding_batch=16,
    ),
    "lora": Method(
        "LoRA with 16-bit weights: activations are recomputed only where memory requires it",
        quantized=False,
        max_length=2048,
        optim="adamw_torch_fused",
        checkpointing="auto",
        decoding_batch=16,
    ),
}
"""File name without .yaml -> its method."""


def recipe_text(model: NewModel, name: str, *, schema: bool = True) -> str:
    """Return the YAML of method `name` for a model; `schema` names the JSON Schema in the first line for editors."""
    method = METHODS[name]
    length = min(method.max_length, model.longest or method.max_length)
    title = " ".join(model.name_or_path.rstrip("/").rpartition("/")[2].split())
    lines = [f"# yaml-language-server: $schema=../{SCHEMA}"] if schema else []
    lines += [
        f"# {title}, {method.purpose}.",
        "# Not yet measured on a GPU; qdsft plan models its memory.",
        "#",
        f"#   accelerate launch scripts/run_sft.py {shlex.quote(f'{model.folder}/{name}.yaml')}",
        "model:",
        f"  name_or_path: {_scalar(model.name_or_path)}",
    ]
    lines += [f"  revision: {_scalar(model.revision)}"] if model.revision else []
    lines.append("  dtype: bfloat16")
    lines += [f"  chat_template: {_scalar(model.chat_template)}"] if model.chat_template else []
    lines += ["  trust_remote_code: true"] if model.trust_remote_code else []
    return "\n".join(lines) + "\n" + (QUANTIZATION if method.quantized else "") + _rest(model, method, length)


def _rest(model: NewModel, method: Method, length: int) -> str:
    clip = "  max_grad_norm: 0.3  # as in the QLoRA paper\n" if method.quantized else ""
    return f"""lora:
  r: 16
  lora_alpha: 32
  lora_dropout: 0.0
  target_modules: [{", ".join(map(_scalar, model.targets))}]
data:
  train: data/examples/sample_train.jsonl
  eval_fraction: 0.1
training:
  max_length: {length}
  packing: true
  per_device_train_batch_size: 1
  global_batch_size: {max(TOKENS_A_STEP // length, 1)}  # packed rows
  num_train_epochs: 3
  learning_rate: 2e-4
  lr_scheduler_type: cosine
  warmup_steps: 0.03  # a share of all steps
{clip}  optim: {method.optim}
  activation_checkpointing: {method.checkpointing}
  logging_steps: 1
  save_strategy: epoch
evaluation:
  max_new_tokens: 256
  batch_size: {method.decoding_batch}
"""


def _scalar(text: str) -> str:
    """Return a text as YAML: plain if every reader takes it for that text, else quoted."""
    compound = re.fullmatch(r"[A-Za-z.][\w./-]*[/_.-][\w./-]*", text, re.ASCII)
    word = re.fullmatch(r"[A-Za-z]{2,}", text, re.ASCII) and text.lower() not in OTHER_VALUES
    return text if compound or word else json.dumps(text, ensure_ascii=False)
