"""Make a finished run without training: a tiny model or adapter with random weights in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from helpers.paths import ROOT
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from qdsft.hashing import text_sha256
from qdsft.model.loading import base_model_facts, load_config, load_tokenizer, stop_token_ids
from qdsft.recipe import load_recipe
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, Fingerprint, TokenFacts
from qdsft.runs.manifest import GoldenPrompt, Manifest, write_manifest
from qdsft.tokenization.chat_template import encode_prompts

RECIPES = ROOT / "recipes"
GOLDEN = ("Who is older, Ada or Bo?", "서울과 부산 중 어디가 더 큰가요?")


def make_run(run_dir: Path, base: Path, name: str = "tiny/full", *overrides: str, lora_scale: float = 0.0) -> Path:
    """Return a run directory of recipe `name` on the model at `base`. `lora_scale` makes it a random adapter."""
    values = [f"model.name_or_path={base}", f"training.output_dir={run_dir}", "evaluation.max_new_tokens=24"]
    recipe = load_recipe(RECIPES / f"{name}.yaml", [*values, *overrides])
    tokenizer = load_tokenizer(recipe)
    config = load_config(recipe)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    artifact: Literal["adapter", "model"] = "adapter" if lora_scale else "model"
    if lora_scale:
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
        for key, weight in model.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(weight, std=lora_scale)
    model.save_pretrained(run_dir / artifact)
    tokenizer.save_pretrained(run_dir / artifact)
    golden = [[{"role": "user", "content": question}] for question in GOLDEN]
    manifest = Manifest(
        state="finished",
        recipe_path=str(recipe.path),
        recipe=recipe.resolved(),
        origins=dict(recipe.origins),
        fingerprint=Fingerprint(),
        data=DataFacts(train_rows=0, eval_rows=0),
        tokens=TokenFacts(),
        template_sha256=text_sha256(tokenizer.chat_template),
        golden_prompts=[
            GoldenPrompt(messages=messages, ids=ids)
            for messages, ids in zip(golden, encode_prompts(tokenizer, golden), strict=True)
        ],
        stop_token_ids=stop_token_ids(recipe, tokenizer, config),
        base_model=BaseModelFacts.model_validate(base_model_facts(recipe, config)),
        artifact=artifact,
        versions={},
        git=None,
        device=DeviceFacts(),
    )
    write_manifest(run_dir, manifest)
    return run_dir
