"""The held-out loss is that of a supervised token, whatever the batches are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.training.run_setup import build_run, prepare_run
from qdsft.training.token_means import TokenMeans, whole_batches
from qdsft.training.trainer import RecipeTrainer

ONE_PROCESS: Any = SimpleNamespace(gather=lambda values: values, num_processes=1)
TWO_PROCESSES: Any = SimpleNamespace(gather=lambda values: torch.cat([values, values]), num_processes=2)


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def trainer_of(recipe: Any) -> RecipeTrainer:
    recipe.run_dir.mkdir(exist_ok=True)
    return build_run(prepare_run(recipe)).trainer


def loss_per_token(trainer: RecipeTrainer) -> float:
    """The same from every row alone, by the model's own logits."""
    total, tokens = 0.0, 0
    data = trainer.eval_dataset
    assert isinstance(data, Dataset)
    for row in data:
        assert isinstance(row, dict)
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            logits = trainer.model(input_ids=ids).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return total / tokens


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_held_out_loss_is_that_of_a_token_for_every_batch_size(size: int, make_recipe: MakeRecipe) -> None:
    trainer = trainer_of(make_recipe("training.packing=false", f"training.per_device_eval_batch_size={size}"))
    trainer.model.eval()
    wanted = loss_per_token(trainer)
    logged: list[dict[str, float]] = []
    trainer.log = lambda logs, *_: logged.append(dict(logs))  # type: ignore[method-assign]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-5)
    assert logged[0]["eval_loss"] == pytest.approx(wanted, rel=1e-5), "the log has the same loss"


@pytest.mark.parametrize("size", [1, 3])
def test_packing_changes_neither_the_loss_nor_the_accuracy(size: int, make_recipe: MakeRecipe) -> None:
    found = []
    for packing in ("true", "false"):
        overrides = (f"training.packing={packing}", f"training.per_device_eval_batch_size={size}")
        trainer = trainer_of(make_recipe(*overrides, "training.max_length=160"))
        trainer.evaluate()
        found.append(trainer.state.log_history[0])
        assert not trainer._metrics["eval"]
    for name in ("eval_loss", "eval_mean_token_accuracy", "eval_entropy"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4), name


def test_dropping_incomplete_batches_drops_no_held_out_row(make_recipe: MakeRecipe) -> None:
    drop = ("training.packing=false", "training.dataloader_drop_last=true", "training.per_device_eval_batch_size=5")
    trainer = trainer_of(make_recipe(*drop))
    whole = trainer_of(make_recipe("training.packing=false"))
    assert len(whole.eval_dataset) % 5, "the test must have an incomplete batch"  # type: ignore[arg-type]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(whole.evaluate()["eval_loss"], rel=1e-5)


def test_a_batch_weighs_as_much_as_its_tokens() -> None:
    means = TokenMeans()
    means.add(torch.tensor(1.0), {"labels": torch.tensor([[5, 1, 1, 1]])})  # the first position predicts nothing
    means.add(torch.tensor(5.0), {"labels": torch.tensor([[-100, 1, -100, -100]])})
    means.add(torch.tensor(math.nan), {"labels": torch.tensor([[-100, -100]])})  # a mean over nothing
    assert means.loss(ONE_PROCESS) == means.loss(TWO_PROCESSES) == 2.0
    metrics = {"entropy": [4.0, 8.0, 0.0], "num_tokens": [7.0]}
    means.weigh(metrics, TWO_PROCESSES)
    assert metrics == {"entropy": [5.0], "num_tokens": [7.0]}
    assert TokenMeans().loss(ONE_PROCESS) is None


@pytest.mark.parametrize(("rows", "world", "size", "length"), [(5, 2, 2, 8), (4, 2, 2, 4), (5, 1, 2, 5), (1, 3, 1, 3)])
def test_rows_without_loss_complete_the_last_batch(rows: int, world: int, size: int, length: int) -> None:
    data = Dataset.from_list([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "seq_lengths": [3]}] * rows)
    config: Any = SimpleNamespace(world_size=world, eval_batch_size=size, dataloader_drop_last=False)
    found = whole_batches(data, config)
    assert found is not None and len(found) == length and found.features == data.features
    assert found[rows:]["labels"] == [[-100, -100]] * (length - rows)
    assert whole_batches(None, config) is None
