"""Fake models against the real ones: weights, adapters, quantized storage, and what is recomputed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn.modules import Linear8bitLt
from helpers.paths import ROOT
from helpers.traced import CUDA, SMALL, recipe_of, tracer_of
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from qdsft.planning.config_file import read_config
from qdsft.planning.way import Way
from qdsft.recipe import load_recipe
from qdsft.training.memory_trace.cuda_semantics import fake_tensors
from qdsft.training.memory_trace.fake_model import FakeModel
from qdsft.training.plan import make_config


def fake(method: str = "lora", *overrides: str, trainable: bool = True, **options: Any) -> FakeModel:
    tracer = tracer_of(**options)
    return FakeModel(recipe_of(method, *overrides), tracer.config, CUDA, trainable=trainable)


def storages(model: FakeModel, numbers: list[int]) -> tuple[int, int]:
    """Bytes of frozen and of trained tensors, each storage once."""
    with fake_tensors(model.mode, cuda=True, packed=False), model.stack(numbers):
        found = {tensor.untyped_storage()._cdata: (tensor.nbytes, trained) for tensor, trained in model.storages()}
    frozen, trained = (sum(size for size, flag in found.values() if flag == wanted) for wanted in (False, True))
    return frozen, trained


@pytest.mark.parametrize(
    "lora",
    [
        (),
        ("lora.target_modules=[q_proj,v_proj]",),
        ("lora.exclude_modules=[down_proj]",),
        ("lora.rank_pattern={down_proj: 4}",),
        ("lora.use_dora=true",),
        ("lora.modules_to_save=[lm_head]",),
        ("lora.target_modules=[q_proj,up_proj]", "lora.layers_to_transform=[0,1]"),
        ("lora.use_rslora=true", "lora.r=3"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["lora", "qlora_8gb"])
def test_adapters_are_those_of_peft(method: str, lora: tuple[str, ...]) -> None:
    recipe = recipe_of(method, *lora)
    model = FakeModel(recipe, tracer_of(num_hidden_layers=2).config, CUDA, trainable=True)
    config = AutoConfig.for_model("mistral", **{**SMALL, "num_hidden_layers": 2})
    given = {key: value for key, value in (recipe.lora or {}).items() if key != "init_lora_weights"}
    real = get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(task_type="CAUSAL_LM", **given))
    wanted = sorted(weight.numel() for weight in real.parameters() if weight.requires_grad)
    assert sorted(weight.numel() for weight in model.model.parameters() if weight.requires_grad) == wanted
    assert model.sizes.trained == sum(wanted)
    assert storages(model, [0, 1])[1] == model.sizes.trained_bytes
    if "lora.modules_to_save=[lm_head]" not in lora:
        assert model.sizes.trained_bytes == 4 * sum(wanted)


@pytest.mark.parametrize("double_quant", ["true", "false"])
def test_4_bit_storage_is_that_of_bitsandbytes_to_the_byte(double_quant: str) -> None:
    model = fake("qlora_8gb", f"quantization.bnb_4bit_use_double_quant={double_quant}", num_hidden_layers=1)
    config = AutoConfig.for_model("mistral", **{**SMALL, "num_hidden_layers": 1})
    real, found = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16), 0
    tables: set[int] = set()
    for name, module in real.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        weight, nested = module.weight.data, double_quant == "true"
        packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type="nf4")
        found += packed.nbytes + state.absmax.nbytes
        if nested:
            found += state.state2.absmax.nbytes + state.offset.nbytes
            tables.add(state.state2.code.nbytes)
        tables.add(state.code.nbytes)
    rest = sum(w.nbytes for name, w in real.named_parameters() if "_proj" not in name)
    rest += sum(buffer.nbytes for buffer in real.buffers())
    # Tables that all weights share are one tensor in bitsandbytes, and a few kilobytes here.
    assert storages(model, [0])[0] == pytest.approx(found + rest + sum(tables), abs=10_000)


@pytest.mark.parametrize(("folder", "gigabytes"), [("llama2", 3.87), ("mistral", 4.13), ("koalpaca", 3.40)])
def test_published_sizes_of_4_bit_models(folder: str, gigabytes: float) -> None:
    recipe = load_recipe(ROOT / f"recipes/{folder}/qlora_8gb.yaml")
    config = make_config(recipe, *read_config(recipe))
    model = FakeModel(recipe, config, CUDA, trainable=False)
    (one, _), (two, _) = storages(model, [0]), storages(model, [0, 1])
    assert (one + (len(model.layers) - 1) * (two - one)) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_8_bit_weights_have_a_byte_and_a_scale_a_row() -> None:
    model = fake("lora", "quantization.load_in_8bit=true", num_hidden_layers=1)
    with fake_tensors(model.mode, cuda=True, packed=False), model.stack([0]):
        layer = model.layers[0].mlp.down_proj.base_layer
        assert isinstance(layer, Linear8bitLt) and layer.state.SCB is not None
        assert layer.weight.nbytes == 512 * 256 and layer.state.SCB.nbytes == 4 * 256


@pytest.mark.parametrize(
    ("method", "size", "dtype"),
    [("full", 4, torch.float32), ("lora", 2, torch.bfloat16)],
)
def test_full_fine_tuning_has_float32_weights(method: str, size: int, dtype: torch.dtype) -> None:
    model = fake(method, num_hidden_layers=2)
    weights = next(iter(model.base.model.layers[0].mlp.parameters()))
    assert weights.element_size() == size and model.dtype == dtype


def test_the_layers_that_are_recomputed_are_transformers_own() -> None:
    model = fake(num_hidden_layers=12)
    for way, recomputed in ((Way(True), 12), (Way(False), 0), (Way(True, 4), 3), (Way(True, 5), 3), (Way(True), 12)):
        model.recompute(way.checkpointing, {"every_n_layers": way.every_n_layers})
        assert sum(layer.gradient_checkpointing for layer in model.layers) == recomputed
        with fake_tensors(model.mode, cuda=True, packed=False), model.stack([0, 1]):  # what is in use does not matter
            assert len(model.current_layers()) == 2
        assert sorted(len(kind) for kind in model.kinds()) == sorted({recomputed, 12 - recomputed} - {0})


def test_layers_in_use_stay_of_the_same_kind() -> None:
    model = fake("qlora_8gb")
    with fake_tensors(model.mode, cuda=True, packed=False), model.stack([0, 1]):
        assert [len(kind) for kind in model.kinds()] == [3]


def test_layers_that_differ_are_of_different_kinds() -> None:
    assert len(fake("lora", "lora.target_modules=[q_proj]", "lora.layers_to_transform=[0,1]").kinds()) == 2
    kinds: dict[str, Any] = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"] * 2}
    kinds["num_hidden_layers"] = 4
    assert len(fake(architecture="gemma3_text", **kinds).kinds()) == 2
    experts: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 64, "decoder_sparse_step": 1}
    experts |= {"mlp_only_layers": [0, 1, 2], "num_hidden_layers": 12}
    assert sorted(map(len, fake(architecture="qwen3_moe", **experts).kinds())) == [3, 9]
