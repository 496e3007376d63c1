"""Regenerate docs/RECIPES.md from recipes/recipe.schema.json and qdsft/recipe/schema.py.

python scripts/make_recipe_docs.py            write the page
python scripts/make_recipe_docs.py --check    exit 1 if the committed page differs
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.recipe.schema import describe, recipe_schema
from qdsft.recipe.upstream_keys import RENAMED, RESERVED, UPSTREAM

PATH = Path(__file__).parent.parent / "docs" / "RECIPES.md"
MOST_OPTIONS = 12
"""A longer list of values is not written out; the page refers to the schema."""

OPENING = """\
# Every key of a recipe

<!-- Made by scripts/make_recipe_docs.py; do not edit. -->

[recipes/README.md](../recipes/README.md) describes the layout, overrides and launch of recipes. This page lists all
keys and is generated from the code. `model`, `data`, `prompt`, `evaluation` and `publish` are qdsft's own sections.
`training`, `lora` and `quantization` keep the names and meanings of the pinned releases; this page quotes the first
sentence of their documentation. `qdsft recipe RECIPE` shows the values of a recipe and where each was set. Only
`model.name_or_path` and `data.train` are required.
"""
INTRODUCTIONS = {
    "lora": "The keys of [peft.LoraConfig](https://huggingface.co/docs/peft/package_reference/lora#peft.LoraConfig). "
    "Without this section all weights are trained.",
    "quantization": "The keys of [transformers.BitsAndBytesConfig]"
    "(https://huggingface.co/docs/transformers/main_classes/quantization#transformers.BitsAndBytesConfig). "
    "Without this section nothing is quantized. With it, `lora` is required.",
    "training": "The keys of [trl.SFTConfig](https://huggingface.co/docs/trl/sft_trainer#trl.SFTConfig), and "
    "`global_batch_size` and `early_stopping_patience`.",
}
MEANINGS = {
    "seed": "Seed of everything random: order of the rows, dropout, new weights.",
    "preflight": "Whether training begins with a memory probe; all other checks run in any case.",
    "training.activation_checkpointing": "Whether activations are computed again in the backward pass instead of kept: "
    "less memory, more time. auto: as few layers as the free memory asks for, by the planner.",
    "training.loss_type": "A loss of TRL (nll: negative log-likelihood; dft: dynamic fine-tuning), or "
    "[your own function](CUSTOM_LOSS.md).",
    "training.packing_strategy": "Which rows share a packed row: bfd puts the longest first, each where it fits best.",
    "training.completion_only_loss": "Only completion tokens carry loss, always.",
    "quantization.load_in_8bit": "Keep linear layers in 8 bits (LLM.int8).",
    "quantization.load_in_4bit": "Keep linear layers in 4 bits (QLoRA).",
    "quantization.llm_int8_threshold": "In 8 bits: inputs above this magnitude are computed in 16 bits.",
    "quantization.llm_int8_skip_modules": "Modules that are not quantized, in 8 or 4 bits.",
    "quantization.llm_int8_has_fp16_weight": "In 8 bits: keep 16-bit weights beside them.",
    "quantization.bnb_4bit_compute_dtype": "In 4 bits: number format that weights are turned into to compute with.",
    "quantization.bnb_4bit_quant_type": "In 4 bits: nf4 suits normally distributed weights.",
    "quantization.bnb_4bit_use_double_quant": "In 4 bits: quantize the scales, too; 0.37 bits a weight less.",
    "quantization.bnb_4bit_quant_storage": "In 4 bits: type of the tensors that the packed weights lie in.",
}
"""Descriptions of keys that have none in the schema."""


def build() -> str:
    """Return the whole page."""
    sections: dict[str, Any] = recipe_schema()["properties"]
    parts = [OPENING, "## Top level\n", _table("", {k: v for k, v in sections.items() if "properties" not in v})]
    for name in sections:
        if "properties" not in sections[name]:
            continue
        introduction = INTRODUCTIONS.get(name) or sections[name]["description"]
        parts += [f"## `{name}`\n", f"{introduction}\n", _table(name, sections[name]["properties"])]
    parts += [
        "## What a recipe may not set\n",
        "Each is an error that says what to do instead.\n",
        _rows(("key", "instead"), [(f"`{s}.{k}`", v) for s, keys in RESERVED.items() for k, v in keys.items()]),
        "## Older and other names\n",
        "Each is an error that names the key of today.\n",
        _rows(("written", "is called"), [(f"`{s}.{k}`", v) for s, keys in RENAMED.items() for k, v in keys.items()]),
    ]
    return "\n".join(parts)


def _table(section: str, keys: dict[str, Any]) -> str:
    required = recipe_schema()["properties"].get(section, {}).get("required", [])
    rows = []
    for key, schema in keys.items():
        name = f"{section}.{key}" if section else key
        needed = key in required or name in {"model.name_or_path", "data.train"}
        rows.append((f"`{key}`", _kind(schema), "required" if needed else _default(schema), _meaning(name, schema)))
    return _rows(("key", "value", "default", "meaning"), rows)


def _rows(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _kind(schema: dict[str, Any]) -> str:
    options = schema.get("enum", ())
    return f"one of {len(options)}, which the schema lists" if len(options) > MOST_OPTIONS else describe(schema)


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if value is None:
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`" if value != "" else ""


def _meaning(name: str, schema: dict[str, Any]) -> str:
    own = name.partition(".")[0] not in UPSTREAM
    text = MEANINGS.get(name) or schema.get("description", "")
    assert text, f"{name} has no description: add one to MEANINGS"
    text = re.sub(r"</?a\b[^>]*>", "", " ".join(text.split()))
    text = text if own or name in MEANINGS else first_sentence(text)
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(text.split("`")))


def first_sentence(text: str) -> str:
    """Return the text up to the first full stop outside of code that a capital letter or code follows, or all of it."""
    end = re.match(r"(?:`[^`]*`|[^`])*?(?<!e\.g)(?<!i\.e)\.(?=\s*(?:[A-Z][a-z]|`|$))", text)
    return end[0] if end else f"{text}."


def main() -> int:
    text = build()
    if "--check" in sys.argv[1:]:
        same = PATH.is_file() and PATH.read_text(encoding="utf-8") == text
        print(f"{PATH.name} is {'up to date' if same else 'out of date: run python scripts/make_recipe_docs.py'}")
        return 0 if same else 1
    PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
