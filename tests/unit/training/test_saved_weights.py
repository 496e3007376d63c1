"""Contract 10 (saved is loadable): each planted fault of a save is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.tiny_trainer import make_trainer
from safetensors.torch import load_file, save_file

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.training import saved_weights
from qdsft.training.trainer import RecipeTrainer


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
