"""With every initial value of LoRA, the saved adapter on the untouched base model is the model that was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.runs.layout import INITIAL_ADAPTER
from qdsft.training.lora_init import write_initial_adapter
from qdsft.training.run_setup import build_run, prepare_run
from qdsft.training.saved_weights import save_weights
from qdsft.training.trainer import RecipeTrainer

IDS = torch.tensor([[1, 50, 51, 52, 60, 61, 99, 120]])
FAST = (
    "training.save_strategy=steps",
    "training.save_steps=2",
    "training.learning_rate=5e-3",
    "training.warmup_steps=0",
    "lora.r=4",
)


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return result


def build(recipe: Recipe, checkpoint: Path | None = None) -> RecipeTrainer:
    recipe.run_dir.mkdir(exist_ok=True)
    trainer = build_run(prepare_run(recipe), checkpoint=checkpoint).trainer
    write_initial_adapter(trainer, recipe.run_dir)
    return trainer


def reopened(recipe: Recipe, folder: Path) -> Any:
    base = AutoModelForCausalLM.from_pretrained(recipe.model.name_or_path, dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(folder))


@pytest.mark.parametrize(
    "lora",
    [
        ["init_lora_weights=pissa"],
        ["init_lora_weights=pissa_niter_4"],
        ["init_lora_weights=olora"],
        ["init_lora_weights=eva"],
        ["init_lora_weights=eva", "eva_config={rho: 1.0}"],
        ["init_lora_weights=mica"],
        ["init_lora_weights=orthogonal"],
        ["init_lora_weights=gaussian"],
        ["init_lora_weights=false"],
        ["init_lora_weights=pissa", "use_dora=true"],
        ["init_lora_weights=pissa", "use_rslora=true"],
        ["init_lora_weights=olora", "rank_pattern={q_proj: 2}", "alpha_pattern={v_proj: 4}"],
        ["init_lora_weights=pissa", "modules_to_save=[embed_tokens]"],
    ],
)
def test_the_saved_adapter_on_the_untouched_base_is_the_trained_model(
    lora: list[str], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(*FAST, "training.max_steps=4", *(f"lora.{value}" for value in lora))
    trainer = build(recipe)
    trainer.train()
    trained = logits(trainer.model)
    save_weights(trainer, tmp_path / "adapter", trained=True)
    opened = reopened(recipe, tmp_path / "adapter")
    torch.testing.assert_close(logits(opened), trained, atol=2e-4, rtol=1e-4)
    with opened.disable_adapter():
        assert (logits(opened) - trained).abs().max() > 0.01, "the adapter does something"
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert isinstance(config["init_lora_weights"], bool) and config["eva_config"] is None


@pytest.mark.parametrize("init", ["pissa_niter_4", "olora", "eva", "mica"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(init: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*FAST, "training.max_steps=4", f"lora.init_lora_weights={init}")
    whole = build(recipe)
    whole.train()
    resumed = build(recipe, recipe.run_dir / "checkpoint-2")
    resumed.train(resume_from_checkpoint=str(recipe.run_dir / "checkpoint-2"))
    torch.testing.assert_close(logits(resumed.model), logits(whole.model), atol=1e-5, rtol=1e-5)
    save_weights(resumed, tmp_path / "adapter", trained=True)
    opened = reopened(recipe, tmp_path / "adapter")
    torch.testing.assert_close(logits(opened), logits(whole.model), atol=2e-4, rtol=1e-4)


def test_a_resume_without_the_adapter_that_the_run_started_from_is_refused(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*FAST, "lora.init_lora_weights=pissa")
    build(recipe).train()
    shutil.rmtree(recipe.run_dir / INITIAL_ADAPTER)
    with pytest.raises(UserError, match="the adapter that this run started from cannot be read"):
        build(recipe, recipe.run_dir / "checkpoint-2")


def test_eva_starts_from_the_data(make_recipe: MakeRecipe) -> None:
    plain, eva = (build(make_recipe(*FAST, f"lora.init_lora_weights={init}")) for init in ("true", "eva"))
    config = eva.model.peft_config["default"]
    assert config.rank_pattern, "the ranks are distributed by explained variance"
    weights = {name: weight for name, weight in eva.model.named_parameters() if "lora_A" in name}
    for weight in weights.values():
        assert weight.requires_grad and weight.dtype == torch.float32
        torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-3, rtol=0)
    assert weights.keys() <= dict(plain.model.named_parameters()).keys()


def test_the_conversion_is_that_of_peft(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*FAST, "training.max_steps=2", "lora.init_lora_weights=pissa")
    trainer = build(recipe)
    trainer.train()
    save_weights(trainer, tmp_path / "ours", trained=True)
    trainer.model.save_pretrained(
        str(tmp_path / "peft"), path_initial_model_for_weight_conversion=str(recipe.run_dir / INITIAL_ADAPTER)
    )
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "peft"))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor)


def test_an_untrained_adapter_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    trainer = build(make_recipe(*FAST, "lora.init_lora_weights=olora"))
    save_weights(trainer, tmp_path / "trial", trained=False)
    with pytest.raises(UserError, match="every LoRA B matrix is as it was initialized: nothing was trained"):
        save_weights(trainer, tmp_path / "adapter", trained=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init_lora_weights=pissa", "use_rslora=true", "rank_pattern={q_proj: 2}"], "cannot be saved as plain LoRA"),
        (["init_lora_weights=olora", "use_bdlora={nblocks: 2}"], "cannot be saved as plain LoRA with lora.use_bdlora"),
        (["init_lora_weights=orthogonal", "r=5"], "needs an even rank"),
    ],
)
def test_values_that_do_not_fit_are_refused(overrides: list[str], message: str, make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=message):
        make_recipe(*(f"lora.{value}" for value in overrides))


@pytest.mark.parametrize("init", ["pissa", "olora", "mica"])
def test_a_quantized_base_is_refused(init: str, make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match="not quantized ones; remove quantization, or set eva"):
        make_recipe(f"lora.init_lora_weights={init}", name="mistral/qlora")


def test_sharded_weights_are_refused(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="eva needs whole weights, and this launch shards them"):
        prepare_run(make_recipe("lora.init_lora_weights=eva"))


def test_eva_on_a_quantized_base(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(*FAST, "lora.init_lora_weights=eva", "training.optim=adamw_torch", name="mistral/qlora")
    trainer = build(recipe)
    assert trainer.model.peft_config["default"].rank_pattern
    trainer.train()
    assert save_weights(trainer, tmp_path / "adapter", trained=True) > 0


def test_trained_tokens_of_a_tied_model_are_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UserError, match=r"trainable_token_indices: TRL's loss needs an unchanged output layer"):
        prepare_run(make_recipe("lora.trainable_token_indices=[5, 6]", name="qwen3_4b/qlora_8gb", architecture="qwen3"))
    prepare_run(make_recipe("lora.trainable_token_indices=[5, 6]"))
