"""A base model that is saved quantized is planned in its own bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import RECIPES
from transformers import LlamaConfig

import qdsft
from qdsft.errors import UserError

FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4, "vocab_size": 1000}


def folder(path: Path, **more: Any) -> Path:
    path.mkdir()
    values = LlamaConfig(**SIZES).to_dict() | {"model_type": "llama"} | more
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.exhaustive
def test_a_plan_counts_the_bits_of_the_base(tmp_path: Path) -> None:
    recipe = str(RECIPES / "llama2/lora.yaml")
    plain, saved = folder(tmp_path / "plain"), folder(tmp_path / "saved", quantization_config=FOUR)
    data = f"data.train={tmp_path / 'rows.jsonl'}"
    (tmp_path / "rows.jsonl").write_text(
        '{"question": "How old is Ada?", "sub_questions": ["Who is Ada?", "How old is #1?"]}\n' * 3, encoding="utf-8"
    )
    wanted = [data, "quantization={load_in_4bit: true, bnb_4bit_quant_type: nf4}"]
    four = qdsft.plan(recipe, [f"model.name_or_path={saved}", data], gpu_memory=24)
    asked = qdsft.plan(recipe, [f"model.name_or_path={plain}", *wanted], gpu_memory=24)
    sixteen = qdsft.plan(recipe, [f"model.name_or_path={plain}", data], gpu_memory=24)
    assert four.training.components["weights"] == asked.training.components["weights"]
    assert four.training.components["weights"] < 0.5 * sixteen.training.components["weights"]
    crowded = qdsft.plan(recipe, [f"model.name_or_path={saved}", data], gpu_memory=0.1)
    assert crowded.changes and not any("load_in" in key for change in crowded.changes for key in change.overrides)
    with pytest.raises(UserError, match=r"quantization\.load_in_8bit: .*saved is saved in 4 bits"):
        qdsft.plan(recipe, [f"model.name_or_path={saved}", data, "quantization.load_in_8bit=true"])
