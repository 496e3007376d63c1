"""What a user sees of a launch that fails or is ended: one line, and no training that nobody controls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.ports import free_port
from helpers.tiny_recipe import recipe_maker

from qdsft.recipe import Recipe
from qdsft.runs.checkpoints import complete_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FAILING = """
import os, sys
from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.training import run_setup

def fail():
    if os.environ["RANK"] in sys.argv[1].split(","):
        raise UserError("planted in " + os.environ["RANK"])

run_setup.{where} = (lambda real: lambda *given, **named: (fail(), real(*given, **named))[1])(run_setup.{where})
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Recipe:
    return recipe_maker(tmp_path, tiny_model)("training.max_steps=300", "training.save_strategy=no")


def command_of(recipe: Recipe) -> list[str]:
    overrides = [f"{key}={value}" for key, value, origin in recipe.rows() if origin == "command line"]
    return [str(recipe.path), *(text.replace("=None", "=null") for text in overrides)]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "MASTER_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}


def launch(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("ranks", "where", "line"),
    [
        ("1", "find_machine", "error: process 1 of 2: planted in 1"),
        ("1", "load_model", "error: process 1 of 2: planted in 1"),
        ("0", "find_machine", "error: planted in 0"),
        ("0,1", "prepare", "error: planted in 0"),
    ],
)
def test_the_lowest_process_with_an_error_prints_it(
    ranks: str, where: str, line: str, recipe: Recipe, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILING.format(where=where), encoding="utf-8")
    several = ("--config_file", "accelerate_configs/ddp.yaml", "--num_processes", "2")
    process = launch(*several, "--main_process_port", str(free_port()), str(script), ranks, *command_of(recipe))
    errors = [text for text in process.communicate(timeout=200)[1].splitlines() if text.startswith("error: ")]
    assert process.returncode == 1
    assert errors[0] == line and not any("planted" in text for text in errors[1:])


def test_a_launcher_that_is_ended_takes_the_training_with_it(recipe: Recipe) -> None:
    process = launch("--cpu", "--num_processes", "1", "scripts/run_sft.py", *command_of(recipe))
    deadline = time.monotonic() + 200
    while not (recipe.run_dir / "log.jsonl").is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[1]  # the pipe is open as long as the training lives
    assert process.returncode == -signal.SIGTERM
    (saved,) = complete_checkpoints(recipe.run_dir)[0]
    assert f"stopped and saved at step {saved.name.split('-')[1]}; resume with: " in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        (
            "train",
            {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"},
            "unset WORLD_SIZE, or start",
        ),
        ("evaluate", {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "unset WORLD_SIZE, or start"),
        ("train", {"WORLD_SIZE": "2"}, "unset WORLD_SIZE, or start"),
        ("evaluate", {"RANK": "1"}, "unset RANK, or start"),
        ("train", {"RANK": "1"}, "unset RANK, or start"),
        ("check", {"RANK": "1", "WORLD_SIZE": "x"}, "unset WORLD_SIZE"),
    ],
)
def test_variables_that_are_left_over_are_one_line_within_seconds(
    command: str, variables: dict[str, str], message: str, recipe: Recipe
) -> None:
    arguments = ["run"] if command == "evaluate" else command_of(recipe)
    started = [sys.executable, "-m", "qdsft", command, *arguments]
    done = subprocess.run(started, env=environment(**variables), capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def test_empty_variables_and_an_address_of_the_cluster_are_no_launch(recipe: Recipe, tmp_path: Path) -> None:
    empty = {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""}
    cluster = {"MASTER_ADDR": "pod-0", "MASTER_PORT": "29500"}
    single = ("--cpu", "--num_processes", "1", "scripts/run_sft.py", *command_of(recipe), "training.max_steps=2")
    process = launch(*single, **empty, **cluster)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert f"finished: {recipe.run_dir}" in said


def test_preflight_checks_a_launch_and_probes_the_memory_as_ddp_trains(recipe: Recipe, tmp_path: Path) -> None:
    several = ("--config_file", "accelerate_configs/ddp.yaml", "--num_processes", "2")
    command = ("-m", "qdsft", "preflight", *command_of(recipe))
    process = launch(*several, "--main_process_port", str(free_port()), *command)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-2000:]
    names = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert names.count("memory") == names.count("isolation") == 1 and "FAILED" not in out
    assert [path.name for path in tmp_path.iterdir() if "preflight" in path.name] == []
