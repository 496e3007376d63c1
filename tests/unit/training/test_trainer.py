"""The trainer keeps its checkpoints complete, and evaluates without changing the training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl.trainer.utils
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from helpers.tiny_trainer import make_trainer
from transformers import MistralForCausalLM

from qdsft.runs.checkpoints import RUN_DIGEST, SAVING, complete_checkpoints
from qdsft.tokenization.rows import Row
from qdsft.training.cpu_loss import LogProbs
from qdsft.training.run_setup import build_run, prepare_run
from qdsft.training.trainer import RecipeTrainer

SAVES = ("training.save_strategy=steps", "training.save_steps=1", "training.packing=false")


CHECKPOINT_FILES = {
    *("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"),
    *("trainer_state.json", RUN_DIGEST),
}


def record_syncs(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets each path of the run that is written to the disk, and "-> NAME" for a rename."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("which file a descriptor belongs to is only known on Linux")
    done: list[str] = []
    replace = os.replace

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(run_dir):
            done.append(str(path.relative_to(run_dir)))

    def rename(source: Path, target: Path) -> None:
        done.append(f"-> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    return done


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


@pytest.mark.slow
def test_checkpoints_are_complete_carry_the_digest_and_the_oldest_are_removed(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(*SAVES, "training.max_steps=4", "training.save_total_limit=2")
    recipe.run_dir.mkdir()
    trainer = make_trainer(recipe)
    trainer.run_digest = "digest"
    synced = record_syncs(recipe.run_dir, monkeypatch)
    trainer.train()
    for step in range(1, 5):
        before = synced[: synced.index(f"-> checkpoint-{step}")]
        files = {path for path in before if path.startswith(f".saving/checkpoint-{step}/")}
        assert {Path(path).name for path in files} >= CHECKPOINT_FILES, "all files are on the disk before the rename"
        assert synced[len(before) + 1] == ".", "and the new name right after it"
    complete, incomplete = complete_checkpoints(recipe.run_dir)
    assert [path.name for path in complete] == ["checkpoint-3", "checkpoint-4"] and not incomplete
    assert (complete[0] / RUN_DIGEST).read_text(encoding="utf-8") == "digest"
    assert not (recipe.run_dir / SAVING).exists() and not (recipe.run_dir / "README.md").exists()


def test_the_faster_loss_is_in_use_only_while_a_loss_is_computed(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(make_recipe("training.packing=false"))
    used: list[int] = []
    apply = LogProbs.apply

    def count(*values: Any) -> Any:
        used.append(1)
        return apply(*values)

    monkeypatch.setattr(LogProbs, "apply", count)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    before = trl.trainer.utils._ChunkedLogProbFunction
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    assert used == [1] and trl.trainer.utils._ChunkedLogProbFunction is before
    trainer.model(**batch, fused_lm_head=True)
    assert used == [1], "outside of compute_loss TRL's own function runs"


def one_update(make_recipe: MakeRecipe, micro: int) -> tuple[float, list[torch.Tensor]]:
    """The logged loss and the trained weights after one update of four rows of unlike length."""
    rows = [Row([1, *range(100, 110 + 12 * i)], 1) for i in range(4)]
    batch = (f"training.per_device_train_batch_size={micro}", "training.global_batch_size=4")
    fixed = ("training.packing=false", "training.max_steps=1", "training.save_strategy=no", "training.logging_steps=1")
    recipe = make_recipe(*batch, *fixed, run=f"run-{micro}")
    recipe.run_dir.mkdir(exist_ok=True)
    trainer = make_trainer(recipe, rows)
    trainer.train()
    trained = [weight.detach().clone() for weight in trainer.model.parameters() if weight.requires_grad]
    return trainer.state.log_history[0]["loss"], trained


@pytest.mark.parametrize("accepts", [True, False, None])
def test_an_update_does_not_depend_on_its_micro_batches_whatever_the_model_class_says(
    accepts: bool | None, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    if accepts is not None:
        monkeypatch.setattr(MistralForCausalLM, "accepts_loss_kwargs", accepts, raising=False)
    whole_loss, whole = one_update(make_recipe, 4)
    for micro in (1, 2):
        loss, trained = one_update(make_recipe, micro)
        assert loss == pytest.approx(whole_loss, rel=1e-5)
        for weight, other in zip(trained, whole, strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-4, atol=2e-6)


@pytest.fixture
def watched(make_recipe: MakeRecipe) -> RecipeTrainer:
    recipe = make_recipe("evaluation.every_steps=2", "training.metric_for_best_model=sari", "training.packing=false")
    recipe.run_dir.mkdir()
    return build_run(prepare_run(recipe)).trainer


@pytest.mark.parametrize(
    ("decoded", "sari"), [({"eval_sari": 0.25}, 0.25), ({"eval_chrf": 0.5}, math.nan), ({}, math.nan)]
)
def test_an_evaluation_adds_the_decoded_metrics_and_draws_nothing_random(
    decoded: dict[str, float], sari: float, watched: RecipeTrainer
) -> None:
    def draw(_: Any) -> dict[str, float]:
        torch.rand(3)
        return decoded

    watched.held_out = draw  # type: ignore[assignment]
    state = torch.get_rng_state()
    metrics = watched.evaluate()
    assert metrics["eval_sari"] == pytest.approx(sari, nan_ok=True) and metrics["eval_loss"] > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_at_its_last_step_takes_no_further_one(make_recipe: MakeRecipe) -> None:
    trainer = make_trainer(make_recipe("training.packing=false"))
    trainer.state.global_step = trainer.state.max_steps = 2
    trainer._run_epoch()  # with no arguments, transformers' own would fail
    assert trainer.control.should_training_stop
