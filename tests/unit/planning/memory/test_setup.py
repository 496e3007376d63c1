"""What a recipe resolves to, against what the real trainer and PEFT make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.model_configs import CONFIG, on_meta
from helpers.paths import ROOT
from peft import LoraConfig, get_peft_model
from transformers import TrainingArguments

from qdsft.errors import UserError
from qdsft.planning.memory.setup import Setup, read_setup
from qdsft.planning.memory.shapes import read_shapes
from qdsft.planning.memory.training_memory import training_peak
from qdsft.recipe import load_recipe


def setup_of(recipe: str, *overrides: str, **options: object) -> Setup:
    values = {"length": 1024, **options}
    return read_setup(load_recipe(ROOT / "recipes" / recipe, overrides), **values)  # type: ignore[arg-type]


def test_formats_of_each_method() -> None:
    qlora, lora, full = (setup_of(f"llama2/{name}.yaml") for name in ("qlora_8gb", "lora", "full"))
    assert (qlora.stream, qlora.compute, qlora.adapter, qlora.bits, qlora.autocast) == (2, 2, 2, 4, True)
    assert (lora.stream, lora.compute, lora.adapter, lora.bits, lora.copies_adapter_inputs) == (2, 2, 4, None, True)
    assert (full.stream, full.compute, full.adapter, full.gradients, full.master) == (4, 2, None, 4, 0)
    sharded = setup_of("llama2/full.yaml", gpus=8, zero=3)
    assert (sharded.stream, sharded.gradients, sharded.master, sharded.autocast) == (2, 2, 4, False)
    old = setup_of("llama2/qlora_8gb.yaml", bfloat16=False)
    assert (old.compute, old.adapter) == (2, 4)
    plain = setup_of("llama2/lora.yaml", "model.dtype=float32")
    assert (plain.stream, plain.compute, plain.autocast) == (4, 4, False)
    assert setup_of("llama2/qlora_8gb.yaml", "quantization.bnb_4bit_compute_dtype=float32").dequantized == 4


def test_peft_keeps_adapters_of_a_16_bit_model_in_float32() -> None:
    model = get_peft_model(on_meta({**CONFIG, "num_hidden_layers": 1}), LoraConfig(task_type="CAUSAL_LM"))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_defaults_are_those_of_the_trainer(tmp_path: Path) -> None:
    recipe = tmp_path / "x.yaml"
    recipe.write_text("model: {name_or_path: a/b}\ndata: {train: x.jsonl}\nlora: {}\n", encoding="utf-8")
    setup = read_setup(load_recipe(recipe), length=1024)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert setup.micro_batch == arguments.per_device_train_batch_size
    assert setup.optimizer == arguments.optim.value
    assert setup.checkpointing and setup.adaptive  # TRL turns it on; ours looks at the memory
    assert not setup.packed
    shapes = read_shapes(CONFIG, "x")
    assert [linear.name for linear in shapes.linears if setup.is_target(shapes, linear)] == ["q_proj", "v_proj"]
    assert setup.rank(shapes, shapes.linears[0]) == LoraConfig().r


def test_rows_scored_between_steps_count() -> None:
    overrides = ["training.eval_strategy=epoch", "training.per_device_eval_batch_size=64"]
    assert setup_of("llama2/qlora_8gb.yaml").evaluated == 0
    setup = setup_of("llama2/qlora_8gb.yaml", *overrides)
    assert setup.evaluated == 64
    peak = training_peak(read_shapes(CONFIG, "x"), setup)
    assert peak.phase == "scoring held-out rows"


def test_a_mask_is_there_where_rows_are_packed_or_padded() -> None:
    masked: Callable[..., bool] = lambda *overrides: setup_of("llama2/qlora_8gb.yaml", *overrides).masked(None)  # noqa: E731
    assert masked()
    assert not masked("training.packing=false")
    assert masked("training.packing=false", "training.per_device_train_batch_size=2")
    assert not masked("model.attn_implementation=flash_attention_2")
    assert masked("training.packing=false", "model.attn_implementation=eager")
    setup = setup_of("llama2/qlora_8gb.yaml", "training.packing=false")
    assert setup.masked(512)
    assert not setup.masked(4096)


def test_a_packed_micro_batch_is_one_row() -> None:
    setup = setup_of("llama2/qlora_8gb.yaml", "training.per_device_train_batch_size=4")
    assert (setup.rows, setup.row_length, setup.tokens) == (1, 4096, 4096)
    setup = setup_of("llama2/qlora_8gb.yaml", "training.per_device_train_batch_size=4", "training.packing=false")
    assert (setup.rows, setup.row_length, setup.tokens) == (4, 1024, 4096)


def test_impossible_setups_are_refused() -> None:
    with pytest.raises(UserError, match="--zero 3 cannot shard quantized weights"):
        setup_of("llama2/qlora_8gb.yaml", gpus=2, zero=3)
    with pytest.raises(UserError, match="global_batch_size 8 is not a multiple"):
        setup_of("llama2/qlora_8gb.yaml", gpus=3)
