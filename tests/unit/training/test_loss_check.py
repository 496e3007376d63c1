"""A model whose output layer TRL computes wrongly, or not at all, is refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.paths import RECIPES
from helpers.tiny_trainer import make_trainer
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.training import loss_check
from qdsft.training.loss_check import Losses, check_fused_loss
from qdsft.training.trainer import RecipeTrainer

IDS = list(range(100, 140))
LABELS = [-100] * 30 + IDS[30:]
SIZES = {"vocab_size": 2000, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
SMALL = {**SIZES, "num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 32}
CONFIGS: dict[str, PretrainedConfig] = {
    "gemma 2": transformers.Gemma2Config(**SMALL, final_logit_softcapping=3.0),
    "granite": transformers.GraniteConfig(**SIZES, num_hidden_layers=2, num_key_value_heads=1, logits_scaling=4.0),
    "cohere": transformers.CohereConfig(**SIZES, num_hidden_layers=2, num_key_value_heads=1, logit_scale=0.25),
    "recurrent gemma": transformers.RecurrentGemmaConfig(
        **SIZES, num_hidden_layers=3, num_key_value_heads=1, lru_width=64, logits_soft_cap=3.0
    ),
    "llama 4": transformers.Llama4Config(
        text_config={
            **SMALL,
            "intermediate_size_mlp": 128,
            "num_local_experts": 2,
            "attention_chunk_size": 64,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
    ),
}


@pytest.fixture
def check(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Losses]:
    """Check a model of one of CONFIGS, whose logits are made large, or the tiny model of an architecture."""

    def run(model: str, *overrides: str, plant: Callable[[RecipeTrainer], object] | None = None) -> Losses:
        if model in CONFIGS:
            folder = tmp_path / "base"
            torch.manual_seed(0)
            made = AutoModelForCausalLM.from_config(CONFIGS[model])
            made.get_output_embeddings().weight.data.mul_(50)
            made.save_pretrained(folder)
            AutoTokenizer.from_pretrained(tiny_model("llama")).save_pretrained(folder)
        else:
            folder = tiny_model(model)
        fixed = (f"model.name_or_path={folder}", f"training.output_dir={tmp_path / 'run'}", "training.report_to=none")
        recipe = load_recipe(RECIPES / "mistral/lora.yaml", [*fixed, "lora.target_modules=all-linear", *overrides])
        trainer = make_trainer(recipe)
        if plant is not None:
            plant(trainer)
        return check_fused_loss(trainer, IDS, LABELS, recipe)

    return run


@pytest.mark.parametrize("packing", ["true", "false"])
@pytest.mark.parametrize("model", ["mistral", "gpt_neox", "gemma3_text", "gemma 2", "granite", "cohere"])
def test_a_right_output_layer_passes(model: str, packing: str, check: Callable[..., Losses]) -> None:
    found = check(model, f"training.packing={packing}")
    assert found.fused == pytest.approx(found.full, rel=1e-4) and found.full > 1


@pytest.mark.parametrize("model", ["recurrent gemma", "llama 4"])
def test_models_that_trl_computes_wrongly_are_refused(model: str, check: Callable[..., Losses]) -> None:
    with pytest.raises(UserError, match=r"base: TRL.* the output layer of (RecurrentGemma|Llama4)\w+ .*another model"):
        check(model, "training.packing=false")


def _scale(trainer: RecipeTrainer) -> None:
    trainer.model.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits * 2)


def _shift(trainer: RecipeTrainer) -> None:
    add: Any = torch.linspace(-5, 5, 2000)
    trainer.model.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits + add)


def _nan(trainer: RecipeTrainer) -> None:
    trainer.model.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits * torch.nan)


def _no_head(trainer: RecipeTrainer) -> None:
    trainer.model.get_base_model().get_output_embeddings = lambda: None


@pytest.mark.parametrize("plant", [_scale, _shift, _nan, _no_head])
def test_a_planted_fault_of_the_output_layer_is_refused(
    plant: Callable[[RecipeTrainer], None], check: Callable[..., Losses]
) -> None:
    with pytest.raises(UserError, match=r"TRL('s loss is| cannot compute the output layer of MistralForCausalLM)"):
        check("mistral", plant=plant)


@pytest.mark.parametrize(("number_format", "accepted"), [("fp32", 0.0005), ("fp16", 0.005), ("bf16", 0.02)])
def test_the_tolerance_follows_the_number_format(
    number_format: str, accepted: float, check: Callable[..., Losses], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plant(trainer: RecipeTrainer) -> None:
        trainer.args.bf16, trainer.args.fp16 = number_format == "bf16", number_format == "fp16"

    full = loss_check._full
    monkeypatch.setattr(loss_check, "_full", lambda *given: full(*given) * (1 + accepted))
    check("mistral", plant=plant)
    monkeypatch.setattr(loss_check, "_full", lambda *given: full(*given) * (1 + 4 * accepted))
    with pytest.raises(UserError, match="TRL's loss is"):
        check("mistral", plant=plant)
