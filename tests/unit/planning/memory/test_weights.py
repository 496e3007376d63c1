"""Bytes that stay: against bitsandbytes' own tensors and PEFT's own adapters."""

from __future__ import annotations

import warnings
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from helpers.model_configs import CONFIG_FOLDER, make_setup, on_meta, read, shapes_of
from peft import LoraConfig, get_peft_model

from qdsft.planning.memory.shapes import Linear, Shapes, read_shapes
from qdsft.planning.memory.weights import _packed, _scales, adapter_tensors, optimizer_bytes, weight_parts


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize(("outputs", "inputs"), [(256, 640), (64, 64), (1000, 192), (2048, 640)])
def test_4_bit_storage_to_the_byte(outputs: int, inputs: int, double_quant: bool) -> None:
    packed, state = quantize_4bit(torch.randn(outputs, inputs), compress_statistics=double_quant, quant_type="nf4")
    tensors = [state.absmax, state.code]
    if double_quant:
        tensors += [state.state2.absmax, state.state2.code, state.offset]
    linear, setup = Linear("mlp.x", inputs, outputs, False), make_setup("qlora", double_quant=double_quant)
    assert _packed(linear, setup) == packed.nbytes
    assert _scales(linear, setup) == sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("llama-2-7b", 3.87), ("mistral-7b-v0.3", 4.13), ("polyglot-ko-5.8b", 3.40)]
)
def test_published_sizes_of_4_bit_models(name: str, gigabytes: float) -> None:
    assert sum(weight_parts(shapes_of(name), make_setup("qlora")).values()) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_embeddings_and_head_are_not_quantized() -> None:
    shapes = shapes_of("llama-2-7b")
    parts = weight_parts(shapes, make_setup("qlora"))
    assert parts["embeddings"] == parts["output head"] == 2 * 32000 * 4096
    assert "output head" not in weight_parts(shapes_of("gemma-3-270m"), make_setup("qlora"))
    skipping = weight_parts(shapes, make_setup("qlora", unquantized=("down_proj",)))
    assert skipping["linear layers"] == 32 * 2 * 4096 * 11008
    assert sum(weight_parts(shapes, make_setup("full under ZeRO")).values()) == 2 * shapes.parameters


@pytest.mark.parametrize("name", ["llama-2-7b", "mistral-7b-v0.3", "polyglot-ko-5.8b", "gemma-3-270m", "qwen3-4b"])
@pytest.mark.parametrize(
    "lora",
    [
        {"r": 16, "target_modules": "all-linear"},
        {"r": 8},
        {"r": 4, "target_modules": r".*\.(o_proj|dense|down_proj)"},
        {"r": 16, "target_modules": "all-linear", "exclude_modules": ["down_proj", "dense_4h_to_h"]},
        {"r": 16, "target_modules": "all-linear", "rank_pattern": {"down_proj|dense_4h_to_h": 4}},
        {"r": 16, "target_modules": "all-linear", "use_dora": True},
        {"r": 16, "target_modules": ["q_proj", "query_key_value"], "modules_to_save": ["lm_head"]},
    ],
    ids=str,
)
def test_adapters_are_those_of_peft(name: str, lora: dict[str, Any]) -> None:
    config = read(CONFIG_FOLDER / f"{name}.json") | {
        "num_hidden_layers": 2,
        "layer_types": None,
        "max_window_layers": 2,
    }
    config = {key: value for key, value in config.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(on_meta(config), LoraConfig(task_type="CAUSAL_LM", **lora))
    real = sorted(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert sorted(adapter_tensors(read_shapes(config, name), make_setup("qlora", lora=lora))) == real


@pytest.mark.parametrize(
    ("name", "millions"), [("llama-2-7b", 40.0), ("mistral-7b-v0.3", 41.9), ("polyglot-ko-5.8b", 29.4)]
)
def test_published_adapter_sizes(name: str, millions: float) -> None:
    assert sum(adapter_tensors(shapes_of(name), make_setup("qlora"))) / 1e6 == pytest.approx(millions, rel=0.002)


@pytest.mark.parametrize("size", [64, 4095, 4096, 65536])
def test_8_bit_states_are_those_of_bitsandbytes(size: int) -> None:
    weight = torch.nn.Parameter(torch.randn(size))
    weight.grad = torch.randn(size)
    optimizer: Any = getattr(bnb.optim, "AdamW8bit")([weight])  # noqa: B009 - its module declares no exports
    optimizer.step()
    state = optimizer.state[weight]
    names = [name for name in ("state1", "state2", "absmax1", "absmax2") if name in state]
    real = sum(state[name].nbytes for name in names)
    shapes = shapes_of("llama-2-7b", num_hidden_layers=1)
    setup = make_setup("full", optimizer="adamw_8bit")

    class One(Shapes):
        def tensors(self) -> Any:
            yield size

    one = One(**shapes.__dict__)
    resident, paged = optimizer_bytes(one, setup)
    assert resident == pytest.approx(real, rel=0.02)
    assert paged == 0


def test_optimizers_differ_as_they_should() -> None:
    shapes = shapes_of("llama-2-7b")
    elements = sum(adapter_tensors(shapes, make_setup("qlora")))

    def per_weight(optimizer: str) -> float:
        return sum(optimizer_bytes(shapes, make_setup("qlora", optimizer=optimizer))) / elements

    assert per_weight("adamw_torch_fused") == 8
    assert per_weight("adamw_8bit") == pytest.approx(2, rel=0.02)
    assert per_weight("lion_8bit") == pytest.approx(1, rel=0.02)
    assert per_weight("ademamix") == 12
    assert per_weight("sgd") == 0
    assert per_weight("an_optimizer_of_tomorrow") == 8


def test_paging_takes_large_states_alone() -> None:
    shapes = shapes_of("llama-2-7b")
    resident, paged = optimizer_bytes(shapes, make_setup("qlora", optimizer="paged_adamw_32bit"))
    # Rank 16 makes matrices of 16 x 4096 = 65,536 elements, fewer than the 100,000 that are paged, and 16 x 11008.
    assert paged == 32 * 3 * 16 * 11008 * 8
    assert resident + paged == optimizer_bytes(shapes, make_setup("qlora", optimizer="adamw_torch"))[0]
    everything = optimizer_bytes(shapes, make_setup("full", optimizer="paged_adamw_8bit"))
    assert everything[1] > 100 * everything[0]
