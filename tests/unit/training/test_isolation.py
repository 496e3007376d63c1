"""Contract 4 (isolation): packed samples do not attend to each other, and packing that leaks is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_trainer import make_trainer

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.training.isolation import check_isolation

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
    assert check_isolation(make_trainer(recipe), SAMPLES, recipe) < 1e-4


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
    with pytest.raises(UserError, match="packed samples see each other"):
        check_isolation(trainer, SAMPLES, recipe)
