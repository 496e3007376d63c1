"""run.json holds what a run starts from and what it results in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.gpus import pretend_gpus
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.hashing import file_sha256, text_sha256
from qdsft.training.run_record import new_manifest, training_results
from qdsft.training.run_setup import prepare_run


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def test_a_manifest_identifies_the_inputs(make_recipe: MakeRecipe) -> None:
    inputs = prepare_run(make_recipe("seed=9"))
    manifest = new_manifest(inputs)
    assert (manifest.state, manifest.artifact, manifest.recipe["seed"]) == ("running", "adapter", 9)
    assert manifest.template_sha256 == text_sha256(inputs.tokenizer.chat_template)
    assert manifest.stop_token_ids == inputs.stop_ids and manifest.data.train_rows > 0
    assert manifest.device.kind == "cpu" and manifest.device.processes == 1
    assert "loss_sha256" not in manifest.fingerprint.model_dump()
    full = new_manifest(prepare_run(make_recipe(name="tiny/full", architecture="llama")))
    assert full.artifact == "model"


def test_the_file_of_a_custom_loss_is_part_of_the_fingerprint(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    file = tmp_path / "loss.py"
    file.write_text("def mine(outputs, labels, num_items_in_batch): ...", encoding="utf-8")
    inputs = prepare_run(make_recipe())
    own = replace(inputs, recipe=make_recipe(f"training.loss_type={file}:mine"))
    assert new_manifest(own).fingerprint.loss_sha256 == file_sha256(file)


def results(history: list[dict[str, Any]], **seconds: float) -> dict[str, Any]:
    trainer: Any = SimpleNamespace(state=SimpleNamespace(log_history=history, epoch=2.0, global_step=8))
    prepared: Any = SimpleNamespace(facts=SimpleNamespace(tokens=SimpleNamespace(tokens=100)))
    times = {"seconds_to_first_step": 3.0, "seconds_training": 4.0, **seconds}
    return training_results(trainer, prepared, **times)


def test_results_count_steps_losses_and_tokens() -> None:
    found = results([{"loss": 2.5}, {"eval_loss": 9.0}, {"loss": 1.5}])
    assert (found["steps"], found["epochs"], found["first_loss"], found["last_loss"]) == (8, 2.0, 2.5, 1.5)
    assert found["tokens_per_second"] == 50.0 and found["peak_memory_gib"] > 0.05


def test_a_run_without_a_step_has_no_loss_and_no_speed() -> None:
    found = results([], seconds_training=0.0)
    assert found["first_loss"] is found["last_loss"] is found["tokens_per_second"] is None


def test_the_peak_of_a_gpu_is_that_of_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, peak=3.25)
    assert results([])["peak_memory_gib"] == 3.25
