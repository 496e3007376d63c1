"""Keys of Axolotl, LLaMA-Factory, Unsloth and TRL's scripts lead to the keys of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.recipe.foreign_keys import FOREIGN_KEYS, foreign_key
from qdsft.recipe.schema import find_key, recipe_schema, section_schema

AXOLOTL = ["base_model", "adapter", "lora_r", "sequence_len", "sample_packing", "micro_batch_size", "datasets"]
LLAMA_FACTORY = ["model_name_or_path", "finetuning_type", "lora_rank", "lora_target", "cutoff_len", "val_size"]
UNSLOTH = ["max_seq_length", "use_gradient_checkpointing", "random_state", "model_name"]
TRL = ["dataset_name", "use_peft", "lora_target_modules", "torch_dtype", "gradient_accumulation_steps"]
EVERYWHERE = ["load_in_4bit", "learning_rate", "lora_alpha", "lora_dropout", "output_dir", "warmup_ratio"]


def message(section: str, key: str) -> str:
    with pytest.raises(UserError) as error:
        load_recipe("tiny/full", [f"{section}.{key}=1" if section else f"{key}=1"])
    return str(error.value)


@pytest.mark.parametrize("key", sorted(FOREIGN_KEYS))
def test_every_hint_names_a_key_that_exists(key: str) -> None:
    place = FOREIGN_KEYS[key].partition(" ")[0].rstrip(":")
    section, _, name = place.partition(".")
    assert name in section_schema(section) if name else section in recipe_schema()["properties"]


SWITCHERS = [
    (section, key)
    for section in ("", "training", "lora", "model")
    for key in (*AXOLOTL, *LLAMA_FACTORY, *UNSLOTH, *TRL, *EVERYWHERE)
    if not section or key not in section_schema(section)
]


@pytest.mark.parametrize(("section", "key"), SWITCHERS)
def test_a_switchers_key_is_answered_with_ours(section: str, key: str) -> None:
    found = message(section, key)
    name = f"{section}.{key}" if section else key
    ways = ("write ", "is called ", "it belongs under ", "is not set in a recipe: ")
    assert found.startswith(f"command line: {name}") and any(way in found for way in ways)


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        ("", "lora_r", "lora_r is not a section of a recipe; write lora.r"),
        ("training", "lora_rank", "training.lora_rank is called lora.r"),
        ("", "load_in_4bit", "load_in_4bit is at the top level; it belongs under quantization:"),
        ("", "cutoff_len", "cutoff_len is not a section of a recipe; write training.max_length"),
        ("", "warmup_ratio", "write training.warmup_steps (a value below 1 is a share of all steps)"),
        ("", "gradient_accumulation_steps", "it is derived; set training.global_batch_size"),
        ("data", "dataset_name", "data.dataset_name is called data.train (a file or a Hub dataset)"),
        ("model", "base_model", "model.base_model is called model.name_or_path"),
        ("", "random_state", "write seed"),
    ],
)
def test_the_messages(section: str, key: str, expected: str) -> None:
    assert message(section, key).endswith(expected)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("learning-rate", "training.learning_rate"),
        ("training.learning_rate", "training.learning_rate"),
        ("training.lora_rank", "lora.r"),
        ("Lora_R", "lora.r"),
        ("seed", "seed"),
        ("model", "model.name_or_path"),
        ("lora", "lora"),
        ("nonsense", None),
        ("nosection.nonsense", None),
    ],
)
def test_find_key(name: str, found: Any) -> None:
    assert find_key(name) == found


def test_an_unknown_name_has_no_hint() -> None:
    assert foreign_key("colour_of_the_sky") is None
