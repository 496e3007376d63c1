"""Contract 4 (isolation): packed samples do not attend to each other, and packing that leaks is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_trainer import make_trainer
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
)

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.training import isolation
from qdsft.training.isolation import ISOLATION_TOLERANCE, check_isolation, small_model
from qdsft.training.trainer import RecipeTrainer

SAMPLES = [list(range(100, 130)), list(range(200, 240))]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama2", "mistral", "koalpaca"])
def test_packed_samples_do_not_see_each_other(
    family: str, attention: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    architecture = {"llama2": "llama", "mistral": "mistral", "koalpaca": "gpt_neox"}[family]
    overrides = [f"model.name_or_path={tiny_model(architecture)}", f"training.output_dir={tmp_path}"]
    overrides += [f"model.attn_implementation={attention}", "training.report_to=none"]
    recipe = load_recipe(ROOT / f"recipes/{family}/lora.yaml", overrides)
    found = check_isolation(make_trainer(recipe), SAMPLES, recipe)
    assert found.change < 1e-4 and found.tolerance == ISOLATION_TOLERANCE


@pytest.mark.parametrize("fault", ["mask of ones", "no position ids"])
def test_packing_that_leaks_is_refused(fault: str, tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    overrides = [f"model.name_or_path={tiny_model('mistral')}", f"training.output_dir={tmp_path}"]
    recipe = load_recipe(ROOT / "recipes/mistral/lora.yaml", [*overrides, "training.report_to=none"])
    trainer = make_trainer(recipe)
    collate = trainer.data_collator

    def leaking(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(rows)
        if fault == "mask of ones":
            return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
        return {key: batch[key] for key in ("input_ids", "labels")}

    trainer.data_collator = leaking
    with pytest.raises(UserError, match=r"samples in one row see each other.*set training\.packing: false"):
        check_isolation(trainer, SAMPLES, recipe)


PADDING_FREE = ("training.packing=false", "training.padding_free=true")


def recipe_of(folder: Path, model: Path, *overrides: str) -> Recipe:
    fixed = [f"model.name_or_path={model}", f"training.output_dir={folder}", "training.report_to=none"]
    return load_recipe(ROOT / "recipes/mistral/lora.yaml", [*fixed, *overrides])


def without_positions(trainer: RecipeTrainer) -> None:
    """Make the trainer's rows leak: without position ids, attention cannot tell where a sample begins."""
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: {key: collate(rows)[key] for key in ("input_ids", "labels")}


def test_padding_free_rows_are_checked_like_packed_ones(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    recipe = recipe_of(tmp_path, tiny_model("mistral"), *PADDING_FREE)
    trainer = make_trainer(recipe)
    assert check_isolation(trainer, SAMPLES, recipe).change < 1e-4
    without_positions(trainer)
    with pytest.raises(UserError, match=r"samples in one row see each other.*set training\.padding_free: false"):
        check_isolation(trainer, SAMPLES, recipe)


def quantize_inputs_by_batch(trainer: RecipeTrainer) -> None:
    """Round the inputs of every MLP to 8 bits by the largest value of the whole batch, as outliers do in LLM.int8."""

    def rounded(_: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        scale = inputs[0].abs().max() / 127
        return ((inputs[0] / scale).round() * scale,)

    for name, module in trainer.model.named_modules():
        if name.endswith(".mlp"):
            module.register_forward_pre_hook(rounded)


@pytest.mark.parametrize("leaks", [False, True])
def test_rounding_that_depends_on_the_batch_is_told_from_a_leak(
    leaks: bool, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    recipe = recipe_of(tmp_path, tiny_model("mistral"))
    trainer = make_trainer(recipe)
    quantize_inputs_by_batch(trainer)
    if leaks:
        without_positions(trainer)
        with pytest.raises(UserError, match="see each other"):
            check_isolation(trainer, SAMPLES, recipe)
    else:
        found = check_isolation(trainer, SAMPLES, recipe)
        assert ISOLATION_TOLERANCE < found.change <= found.tolerance  # without the control this would be refused


@pytest.mark.parametrize("leaks", [False, True])
def test_llm_int8_is_not_refused_for_its_rounding(
    leaks: bool, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    # So low a threshold makes outliers, which a tiny model has not, of many values.
    recipe = recipe_of(tmp_path, tiny_model("mistral"), "quantization={load_in_8bit: true, llm_int8_threshold: 0.05}")
    trainer = make_trainer(recipe)
    if leaks:
        without_positions(trainer)
        with pytest.raises(UserError, match="see each other"):
            check_isolation(trainer, SAMPLES, recipe)
    else:
        found = check_isolation(trainer, SAMPLES, recipe)
        assert ISOLATION_TOLERANCE < found.change <= found.tolerance < 0.1


def test_the_tolerance_is_no_finer_than_the_number_format(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    recipe = recipe_of(tmp_path, tiny_model("mistral"))
    trainer = make_trainer(recipe)
    trainer.args.bf16 = True
    found = check_isolation(trainer, SAMPLES, recipe)
    assert torch.finfo(torch.bfloat16).eps < found.tolerance < 0.1


@pytest.mark.parametrize("reached", [3, 40])
def test_a_leak_into_the_first_tokens_alone_is_refused(
    reached: int, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution of width 4 that runs over the boundary moves three tokens."""
    recipe = recipe_of(tmp_path, tiny_model("mistral"))
    trainer = make_trainer(recipe)
    trainer.args.bf16 = True
    logits = isolation._logits

    def leaking(trainer: RecipeTrainer, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        found = logits(trainer, model, batch)
        start = len(SAMPLES[0])
        found[:1, start : start + reached] += (
            torch.randn(found.shape[-1]) * found.std() * batch["input_ids"][0, 0] / 100
        )
        return found

    monkeypatch.setattr(isolation, "_logits", leaking)
    with pytest.raises(UserError, match="see each other"):
        check_isolation(trainer, SAMPLES, recipe)


def round_by_batch(model: torch.nn.Module) -> None:
    """Move the output of every block by up to half a step of bfloat16, otherwise for every packed row.

    So do kernels that sum in an order which depends on the batch, as those of experts do on a GPU.
    """

    def rounded(module: torch.nn.Module, _: Any, output: Any) -> Any:
        values = output[0] if isinstance(output, tuple) else output
        if values.shape[0] > 1:  # the control has two rows and is exact here: the worst case for the check
            return output
        seed = int(values.float().abs().sum() * 1e6) % 2**31
        noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
        moved = values * (1 + noise * torch.finfo(torch.bfloat16).eps)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    for name, module in model.named_modules():
        if name.endswith((".mlp", ".self_attn")):
            module.register_forward_hook(rounded)


SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 2000}
DEEP = [
    LlamaConfig(**SIZES, num_hidden_layers=24),
    MixtralConfig(**SIZES, num_hidden_layers=12, num_key_value_heads=4, num_local_experts=4),
    Qwen3MoeConfig(**SIZES, num_hidden_layers=12, num_key_value_heads=4, num_experts=8, moe_intermediate_size=64),
]


@pytest.mark.parametrize("leaks", [False, True])
@pytest.mark.parametrize("config", DEEP, ids=lambda config: str(config.model_type))
def test_rounding_of_bfloat16_that_depends_on_the_neighbour_is_no_leak(
    config: PretrainedConfig, leaks: bool, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    recipe = recipe_of(tmp_path, tiny_model("mistral"))
    trainer = make_trainer(recipe)
    trainer.args.bf16 = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        weight.data *= 4 if weight.ndim > 1 else 1  # activations as large as those of trained weights
    round_by_batch(model)
    if leaks:
        without_positions(trainer)
        with pytest.raises(UserError, match="see each other"):
            check_isolation(trainer, SAMPLES, recipe, model)
    else:
        found = check_isolation(trainer, SAMPLES, recipe, model)
        assert torch.finfo(torch.bfloat16).eps < found.change < found.tolerance < 0.5


@pytest.mark.parametrize("leaks", [False, True])
def test_a_small_model_of_the_same_config_stands_for_sharded_weights(
    leaks: bool, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    recipe = recipe_of(tmp_path, tiny_model("mistral"))
    trainer = make_trainer(recipe)
    state = torch.random.get_rng_state()
    model = small_model(trainer)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(model) is type(trainer.model.get_base_model()) and model is not trainer.model.get_base_model()
    if leaks:
        without_positions(trainer)
        with pytest.raises(UserError, match="see each other"):
            check_isolation(trainer, SAMPLES, recipe, model)
    else:
        assert check_isolation(trainer, SAMPLES, recipe, model).change < 1e-4


def test_a_small_model_has_a_layer_of_every_kind() -> None:
    kinds = [*["sliding_attention"] * 5, "full_attention"] * 2
    config = Gemma3TextConfig(num_hidden_layers=12, layer_types=kinds)
    isolation._keep_layers(config)
    assert (config.num_hidden_layers, config.layer_types) == (2, ["sliding_attention", "full_attention"])
    plain = LlamaConfig(num_hidden_layers=12)
    isolation._keep_layers(plain)
    assert plain.num_hidden_layers == isolation.SMALL_LAYERS
