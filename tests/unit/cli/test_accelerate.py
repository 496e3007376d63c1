"""`qdsft train --accelerate`: which launcher is started, and with what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.gpus import pretend_gpus
from helpers.paths import ROOT
from helpers.tiny_recipe import recipe_maker

from qdsft.cli import accelerate
from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.recipe import load_recipe


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have replaced this process: the command and its environment."""
    calls: list[Any] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "execve", lambda program, command, environment: calls.extend([command, environment]))
    for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("config", "gpus", "processes"),
    [
        ("zero2", 4, ["--num_processes", "4"]),
        ("ddp", 1, ["--num_processes", "1"]),
        ("ddp", 0, []),  # two processes on a CPU, as the file says
        ("cpu", 2, []),
        ("single_gpu", 2, []),
        ("multi_node_zero3", 8, []),
    ],
)
def test_one_process_per_gpu(
    config: str, gpus: int, processes: list[str], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerate, "_count_gpus", lambda: gpus)
    main(["train", "tiny/full", "--resume", "seed=3", "--accelerate", config])
    command, environment = started
    path = str(ROOT / "accelerate_configs" / f"{config}.yaml")
    assert command[1:6] == ["-m", "accelerate.commands.launch", "--quiet", "--config_file", path]
    assert command[6:] == [*processes, "-m", "qdsft", "train", "tiny/full", "seed=3", "--resume"]
    assert environment["QDSFT_ACCELERATE"] == config and environment["PATH"] == os.environ["PATH"]


def test_a_path_is_taken_as_it_is(started: list[Any], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("distributed_type: 'NO'\n", encoding="utf-8")
    main(["train", "tiny/full", "--accelerate", str(tmp_path / "own.yaml")])
    assert started[0][5] == str(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("config", "text", "message"),
    [
        ("zero9", None, "--accelerate zero9: no such file; give a path, or one of cpu, ddp, fsdp2, "),
        ("own.yaml", "- a list", "no configuration of accelerate; write one with: accelerate config"),
        ("own.yaml", "a: [", "cannot be read: "),
    ],
)
def test_a_configuration_that_cannot_be_used(
    config: str, text: str | None, message: str, started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / config).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        accelerate.launch(config, ["tiny/full"])
    assert message in str(error.value) and started == []


def test_deepspeed_must_be_installed(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match="--accelerate zero2 requires deepspeed; install with: pip install -e"):
        accelerate.launch("zero2", ["tiny/full"])
    assert started == []


@pytest.mark.parametrize("name", ["WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"])
def test_under_another_launcher_it_is_refused(name: str, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match="leave it out under accelerate launch or torchrun"):
        accelerate.launch("cpu", ["tiny/full"])
    assert started == []


def test_a_bad_recipe_fails_before_the_launch(started: list[Any]) -> None:
    assert main(["train", "tiny/full", "training.learning_rte=1", "--accelerate", "cpu"]) == 1
    assert started == []


def test_the_command_that_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("tiny/full", ["seed=3"])
    monkeypatch.setenv("QDSFT_ACCELERATE", "zero2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert recipe.resume_command() == f"qdsft train {recipe.path} seed=3 --accelerate zero2 --resume"


@pytest.mark.slow
def test_two_processes_train_and_an_error_is_its_exit_status(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    batch = ["training.per_device_train_batch_size=1", "training.global_batch_size=2"]
    recipe = recipe_maker(tmp_path, tiny_model)(*batch)
    rows = [f"{key}={json.dumps(value)}" for key, value, origin in recipe.rows() if origin == "command line"]
    command = [sys.executable, "-m", "qdsft", "train", str(recipe.path), *rows, "--accelerate", "ddp"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 process(es)" in done.stderr and (recipe.run_dir / "run.json").is_file()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert again.returncode != 0 and "error: " in again.stderr


def test_the_gpus_are_counted_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, count=4)
    assert accelerate._count_gpus() == 4
