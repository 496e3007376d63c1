"""A run that was killed, stopped, or out of disk space resumes from its checkpoint and ends with the same weights."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from safetensors.torch import load_file

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.runs.manifest import read_manifest
from qdsft.training.train import train
from qdsft.training.trainer import RecipeTrainer

pytestmark = pytest.mark.slow

KILLS = 30
STEPS = 12


@pytest.fixture
def arguments(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[[str], tuple[str, list[str]]]:
    data = tmp_path / "rows.jsonl"
    row = '{"question": "How old is number %d?", "sub_questions": ["Who is number %d?", "How old is #1?"]}\n'
    data.write_text("".join(row % (i, i) for i in range(40)), encoding="utf-8")

    def make(run: str, *overrides: str) -> tuple[str, list[str]]:
        fixed = [
            f"model.name_or_path={tiny_model('llama')}",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0",
            f"training.output_dir={tmp_path / run}",
            f"training.max_steps={STEPS}",
            "training.save_strategy=steps",
            "training.save_steps=1",
            "training.save_total_limit=2",
            "training.logging_steps=1",
            "training.report_to=none",
            "training.packing=false",
            "training.per_device_train_batch_size=2",
            "training.global_batch_size=2",
        ]
        if "training.save_strategy=no" in overrides:
            fixed = [value for value in fixed if not value.startswith("training.save_")]
        return str(ROOT / "recipes/mistral/qlora_8gb.yaml"), [*fixed, *overrides]

    return make


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(run_dir / "adapter" / "adapter_model.safetensors")
    return loaded


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    moved = {name: float((first[name] - second[name]).abs().max()) for name in first}
    assert {name: change for name, change in moved.items() if change} == {}


def go_on(path: str, overrides: list[str]) -> None:
    """What a person does after a crash, in a process that may be killed; its output goes nowhere."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    recipe = load_recipe(path, overrides)
    train(recipe, resume=(recipe.run_dir / "run.json").is_file())


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_killed_thirty_times_it_ends_with_the_weights_of_an_uninterrupted_run(
    arguments: Callable[[str], tuple[str, list[str]]],
) -> None:
    whole = train(load_recipe(*arguments("whole")))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qdsft.training.train"])
    path, overrides = arguments("killed")
    run_dir = load_recipe(path, overrides).run_dir
    chance = random.Random(0)
    kills, during_saves, steps = 0, 0, [0]
    while kills < KILLS:
        process = context.Process(target=go_on, args=(path, overrides))
        process.start()
        _wait_for_a_moment(run_dir, process, chance, in_save=kills % 3 == 0)
        if not process.is_alive():
            process.join()
            assert process.exitcode == 0, "the run itself failed"
            assert_equal_weights(whole, run_dir)
            shutil.rmtree(run_dir)  # finished before it could be killed: once more from the beginning
            continue
        during_saves += (run_dir / ".saving").exists()
        process.kill()
        process.join()
        kills += 1
        complete, incomplete = complete_checkpoints(run_dir)
        assert not incomplete, "a checkpoint under its final name is whole"
        steps.append(int(complete[-1].name.split("-")[1]) if complete else 0)
    assert during_saves >= 3 and len(set(steps)) > 3, "the kills did not fall where they should"
    go_on_here = load_recipe(path, overrides)
    train(go_on_here, resume=(run_dir / "run.json").is_file())
    assert_equal_weights(whole, run_dir)


def _wait_for_a_moment(run_dir: Path, process: Any, chance: random.Random, *, in_save: bool) -> None:
    """Until this process has logged none to three steps and a while has passed, or until it then begins a save."""
    log = run_dir / "log.jsonl"
    aim = _lines(log) + chance.randrange(4)
    while process.is_alive() and _lines(log) < aim:
        time.sleep(0.002)
    if not in_save:
        time.sleep(chance.random() * 0.3)
        return
    while process.is_alive() and not (run_dir / ".saving").exists():
        time.sleep(0.0005)
    time.sleep(chance.random() * 0.01)


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def test_a_run_killed_after_its_last_step_takes_no_further_step(
    arguments: Callable[..., tuple[str, list[str]]],
) -> None:
    # The rate stays up, so that a step too many would show.
    recipe = load_recipe(*arguments("last", "training.max_steps=2", "training.lr_scheduler_type=constant"))
    run_dir = train(recipe)
    whole = weights(run_dir)
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    for _ in range(2):
        (run_dir / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
        shutil.rmtree(run_dir / "adapter")
        train(recipe, resume=True)
        assert all(torch.equal(weights(run_dir)[name], whole[name]) for name in whole)
        assert complete_checkpoints(run_dir)[0][-1].name == "checkpoint-2"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_prints_the_command_to_resume(
    arguments: Callable[..., tuple[str, list[str]]], number: int, status: int, quick_python: str
) -> None:
    # No save would come by itself: the one that is resumed from is the signal's.
    plain = ("training.save_strategy=no", "training.max_steps=300")
    path, overrides = arguments("stopped", *plain)
    run_dir = load_recipe(path, overrides).run_dir
    command = [quick_python, "-m", "qdsft", "train", path, *overrides]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run_dir / "log.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == status, said
    (saved,) = complete_checkpoints(run_dir)[0]
    step = int(saved.name.split("-")[1])
    assert 1 <= step < 300
    assert f"stopped and saved at step {step}; resume with: qdsft train {path}" in said and "Traceback" not in said
    assert read_manifest(run_dir).state == "running"


def test_stopped_by_a_signal_and_resumed_equals_uninterrupted(
    arguments: Callable[..., tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qdsft.errors import Interrupted

    whole = train(load_recipe(*arguments("whole", "training.save_strategy=no")))
    recipe = load_recipe(*arguments("stopped", "training.save_strategy=no"))
    step = RecipeTrainer.training_step

    def signalled(self: RecipeTrainer, *values: Any, **options: Any) -> Any:
        if self.state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *values, **options)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved at step 5") as stopped:
        patch.setattr(RecipeTrainer, "training_step", signalled)
        train(recipe)
    assert stopped.value.status == 143
    assert_equal_weights(whole, train(recipe, resume=True))


def test_a_disk_that_fills_during_a_save_leaves_the_last_good_checkpoint(
    arguments: Callable[..., tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(load_recipe(*arguments("whole")))
    recipe = load_recipe(*arguments("full"))
    save, usage = torch.save, shutil.disk_usage(ROOT)

    def full(content: Any, place: Any, *values: Any, **options: Any) -> None:
        if "checkpoint-7" in str(place):
            Path(place).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, place, *values, **options)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="the disk is full; free some space and resume"):
        patch.setattr(torch, "save", full)
        real = shutil.disk_usage
        patch.setattr(
            "qdsft.training.train.shutil.disk_usage", lambda _: usage._replace(free=0) if _saving(recipe) else real(_)
        )
        train(recipe)
    complete, incomplete = complete_checkpoints(recipe.run_dir)
    assert [path.name for path in complete] == ["checkpoint-5", "checkpoint-6"] and not incomplete
    assert_equal_weights(whole, train(recipe, resume=True))


def _saving(recipe: Recipe) -> bool:
    return (recipe.run_dir / ".saving").exists()


@pytest.mark.parametrize("missing", ["optimizer.pt", "scheduler.pt", "adapter_model.safetensors"])
def test_a_checkpoint_without_its_state_is_an_error_and_not_a_quiet_restart(
    arguments: Callable[..., tuple[str, list[str]]], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(*arguments("damaged", "training.max_steps=2", "training.save_steps=2"))
    run_dir = train(recipe)
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    (run_dir / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    (run_dir / "checkpoint-2" / missing).unlink()
    with pytest.raises(UserError, match="none of its checkpoints can be resumed from"):
        train(recipe, resume=True)
    assert "checkpoint-2: incomplete" in capsys.readouterr().err
