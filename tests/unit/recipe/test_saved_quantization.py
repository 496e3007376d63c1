"""A base model that is saved quantized keeps its bits, and a recipe that asks for others is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.saved_quantization import is_saved_quantized, saved_quantization, with_saved_quantization

FOUR: dict[str, Any] = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
EIGHT = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": False,
    "load_in_8bit": True,
    "bnb_4bit_quant_type": "fp4",  # a default, which transformers saves too
}
GPTQ = {"quant_method": "gptq", "bits": 4}
LORA = "lora: {r: 4}\n"


def recipe(tmp_path: Path, text: str = LORA) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(f"model: {{name_or_path: base}}\ndata: {{train: t.jsonl}}\n{text}", encoding="utf-8")
    return load_recipe(path)


def test_the_recipe_gets_the_bits_of_the_base(tmp_path: Path) -> None:
    plain = recipe(tmp_path)
    four = with_saved_quantization(plain, {"quantization_config": FOUR})
    assert four.quantization == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    }
    assert four.method == "qlora" and plain.method == "lora"
    assert with_saved_quantization(plain, {"quantization_config": EIGHT}).quantization == {"load_in_8bit": True}
    for config in ({}, {"quantization_config": None}):
        assert with_saved_quantization(plain, config) is plain and not is_saved_quantized(config)
    gptq = {"quantization_config": GPTQ}
    assert with_saved_quantization(plain, gptq) is plain and is_saved_quantized(gptq)
    assert saved_quantization(gptq) is None


@pytest.mark.parametrize(
    ("given", "saved", "key"),
    [
        ("load_in_8bit: true", FOUR, "load_in_8bit"),
        ("load_in_4bit: true", EIGHT, "load_in_4bit"),
        ("load_in_4bit: true, bnb_4bit_quant_type: fp4", FOUR, "bnb_4bit_quant_type"),
        ("load_in_4bit: true, bnb_4bit_use_double_quant: false", FOUR, "bnb_4bit_use_double_quant"),
    ],
)
def test_other_bits_than_those_of_the_base_are_refused(
    given: str, saved: dict[str, Any], key: str, tmp_path: Path
) -> None:
    asked = recipe(tmp_path, f"{LORA}quantization: {{{given}}}\n")
    with pytest.raises(UserError, match=rf"r\.yaml:4: quantization\.{key}: base is saved in [48] bits, .*; remove"):
        with_saved_quantization(asked, {"quantization_config": saved})


def test_the_same_bits_are_accepted(tmp_path: Path) -> None:
    asked = recipe(tmp_path, f"{LORA}quantization: {{load_in_4bit: true, bnb_4bit_compute_dtype: float32}}\n")
    found = with_saved_quantization(asked, {"quantization_config": FOUR}).quantization
    assert found is not None and found["bnb_4bit_compute_dtype"] == "float32" and found["bnb_4bit_quant_type"] == "nf4"


@pytest.mark.parametrize("saved", [FOUR, GPTQ])
def test_full_fine_tuning_and_initial_values_from_weights_are_refused(saved: dict[str, Any], tmp_path: Path) -> None:
    config = {"quantization_config": saved}
    with pytest.raises(UserError, match=r"r\.yaml:1: base is saved quantized.* add a lora section"):
        with_saved_quantization(recipe(tmp_path, ""), config)
    if saved is FOUR:
        with pytest.raises(UserError, match="pissa needs the base model's own weights"):
            with_saved_quantization(recipe(tmp_path, "lora: {r: 4, init_lora_weights: pissa}\n"), config)
