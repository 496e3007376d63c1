"""The training stage turns what ends a run early into an error with the command that resumes it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.errors import Interrupted, UserError
from qdsft.runs.manifest import read_manifest
from qdsft.training import train as stage
from qdsft.training.train import train


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def steps_that(make_recipe: MakeRecipe, loop: Callable[..., None]) -> None:
    """Run `_take_steps` with a trainer whose training loop is `loop`, which gets the callbacks."""
    callbacks: list[Any] = []
    trainer = SimpleNamespace(
        add_callback=callbacks.append,
        train=lambda resume_from_checkpoint: loop(*callbacks),
        state=SimpleNamespace(global_step=7),
    )
    recipe = make_recipe()
    recipe.run_dir.mkdir(exist_ok=True)
    stage._take_steps(SimpleNamespace(trainer=trainer, inputs=SimpleNamespace(recipe=recipe)), None)  # type: ignore[arg-type]


def test_a_signal_names_the_step_and_the_command_to_resume(make_recipe: MakeRecipe) -> None:
    def stopped(stop: Any) -> None:
        stop.signal, stop.stopped = signal.SIGINT, True

    with pytest.raises(
        Interrupted, match=r"stopped and saved at step 7; resume with: qdsft train .* --resume"
    ) as ended:
        steps_that(make_recipe, stopped)
    assert ended.value.status == 130


def test_out_of_memory_names_the_remedy(make_recipe: MakeRecipe) -> None:
    def full(_: Any) -> None:
        raise torch.OutOfMemoryError("planted")

    with pytest.raises(UserError, match=r"out of memory while training .*; set training\.activation_checkpoint"):
        steps_that(make_recipe, full)


def test_only_an_error_on_a_full_disk_is_the_disks(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Any) -> None:
        raise OSError("planted")

    with pytest.raises(OSError, match="planted"):
        steps_that(make_recipe, failing)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1000, 0))
    with pytest.raises(UserError, match=r"the disk is full; free some space and resume with: qdsft train .* --resume"):
        steps_that(make_recipe, failing)


@pytest.mark.slow
def test_a_run_leaves_its_files_and_a_finished_one_is_not_built_again(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe("training.save_strategy=no")
    run_dir = train(recipe)
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {"adapter", "run.json", "eval.jsonl", "log.jsonl", "loss.png", "README.md"}
    results = read_manifest(run_dir).results
    assert results.steps == 2 and results.seconds_to_first_step and results.seconds_training
    assert results.activation_checkpointing is not None
    assert set(results.activation_checkpointing.model_dump()) == {"checkpointing", "every_n_layers", "said"}
    monkeypatch.setattr(stage, "build_run", lambda *_, **__: pytest.fail("the model was loaded"))
    assert train(recipe, resume=True) == run_dir


def test_overwrite_deletes_nothing_that_it_cannot_replace(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(make_recipe().model.name_or_path, base)
    recipe = make_recipe(f"model.name_or_path={base}", "training.packing=false")
    train(recipe)
    kept = sorted(path.relative_to(recipe.run_dir) for path in recipe.run_dir.rglob("*"))
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"the weights cannot be loaded: model\.safetensors is cut"):
        train(recipe, overwrite=True)
    weights.unlink()
    with pytest.raises(UserError, match="no weights"):
        train(recipe, overwrite=True)
    own = make_recipe(f"data.train={recipe.run_dir / 'eval.jsonl'}")
    with pytest.raises(UserError, match=r"data\.train: .* lies in the run directory"):
        train(own, overwrite=True)
    assert sorted(path.relative_to(recipe.run_dir) for path in recipe.run_dir.rglob("*")) == kept


def test_a_run_directory_on_a_volume_is_written_through_its_link(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "run").symlink_to("volume")
    train(make_recipe("training.packing=false"))
    train(make_recipe("training.packing=false"), overwrite=True)
    assert (tmp_path / "run").is_symlink() and (tmp_path / "volume" / "adapter").is_dir()
