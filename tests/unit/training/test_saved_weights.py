"""Contracts 4 (isolation), 8 (disk) and 10 (saved is loadable): each planted fault is caught."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from safetensors.torch import load_file, save_file

from qdsft.errors import UserError
from qdsft.model.device import find_machine
from qdsft.model.loading import load_model, load_tokenizer
from qdsft.recipe import Recipe, load_recipe
from qdsft.tokenization.prepared import of_rows
from qdsft.tokenization.rows import Row
from qdsft.training import saved_weights
from qdsft.training.build import build_config, build_trainer
from qdsft.training.checks import check_disk
from qdsft.training.isolation import check_isolation
from qdsft.training.trainer import RecipeTrainer


def make_trainer(recipe: Recipe) -> RecipeTrainer:
    rows = of_rows([Row([1, *range(start, start + 30)], 0) for start in (100, 200, 300)])
    model, tokenizer = load_model(recipe, find_machine(), trainable=True), load_tokenizer(recipe)
    config = build_config(recipe, find_machine(), recipe.run_dir)
    return build_trainer(recipe, config, model, tokenizer, rows, None)


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Recipe:
    overrides = [f"model.name_or_path={tiny_model('mistral')}", f"training.output_dir={tmp_path / 'run'}"]
    (tmp_path / "run").mkdir()
    return load_recipe(ROOT / "recipes/mistral/lora.yaml", [*overrides, "training.report_to=none"])


@pytest.fixture
def trainer(recipe: Recipe) -> RecipeTrainer:
    return make_trainer(recipe)


@pytest.fixture
def saved(trainer: RecipeTrainer, tmp_path: Path) -> Iterator[Path]:
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    trainer.save_model(str(tmp_path / "adapter"))
    yield tmp_path / "adapter"


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
def test_packing_that_leaks_is_refused(trainer: RecipeTrainer, recipe: Recipe, fault: str) -> None:
    collate = trainer.data_collator

    def leaking(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(rows)
        if fault == "mask of ones":
            return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
        return {key: batch[key] for key in ("input_ids", "labels")}

    trainer.data_collator = leaking
    with pytest.raises(UserError, match="packed samples see each other"):
        check_isolation(trainer, SAMPLES, recipe)


def test_a_good_save_is_accepted(trainer: RecipeTrainer, saved: Path) -> None:
    expected = saved_weights.expected_tensors(trainer)
    assert expected
    assert saved_weights.check_saved(saved, expected, trained=True) == len(expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "qwen3", "gemma3_text"])
def test_a_whole_model_is_saved_under_the_names_it_is_loaded_by(
    architecture: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    overrides = [f"model.name_or_path={tiny_model(architecture)}", f"training.output_dir={tmp_path}"]
    trainer = make_trainer(load_recipe(ROOT / "recipes/tiny/full.yaml", [*overrides, "training.report_to=none"]))
    trainer.save_model(str(tmp_path / "model"))
    assert saved_weights.check_saved(tmp_path / "model", saved_weights.expected_tensors(trainer), trained=True) > 10


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "holds NaN or infinity"),
        ("zero", "every LoRA B matrix is zero"),
        ("shape", "was saved as"),
        ("value", "with other values than it has in memory"),
        ("missing", "were not saved"),
        ("empty tensor", "was saved empty"),
        ("truncated", "cannot be read back"),
        ("no file", "no weights were saved"),
    ],
)
def test_a_bad_save_is_refused(trainer: RecipeTrainer, saved: Path, fault: str, message: str) -> None:
    file = saved / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "lora_B" in name)
    if fault == "nan":
        tensors[name][0, 0] = float("nan")
    elif fault == "zero":
        tensors = {key: torch.zeros_like(value) if "lora_B" in key else value for key, value in tensors.items()}
    elif fault == "shape":
        tensors[name] = tensors[name][1:].contiguous()
    elif fault == "value":
        tensors[name] = tensors[name] + 1
    elif fault == "missing":
        del tensors[name]
    elif fault == "empty tensor":
        tensors[name] = torch.empty(0)
    save_file(tensors, file)
    if fault == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "no file":
        file.unlink()
    with pytest.raises(UserError, match=message):
        expected = None if fault == "zero" else saved_weights.expected_tensors(trainer)
        saved_weights.check_saved(saved, expected, trained=True)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    trainer: RecipeTrainer, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_disk(recipe.run_dir, trainer, recipe)
    usage = shutil.disk_usage(recipe.run_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        UserError, match=r"1\.5 MiB are needed for \d checkpoints and the result, and 0\.0 MiB are free"
    ):
        check_disk(recipe.run_dir, trainer, recipe)
