"""The shell scripts beside train_runpod.sh: what they start, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.installed_packages import PROJECT
from helpers.paths import ROOT
from helpers.stand_ins import Pod

from qdsft.cli.main import main

QLORA = "recipes/mistral/qlora_8gb.yaml"
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.sh"), *(ROOT / "scripts" / "lib").glob("*.sh")])
CONFIG = ROOT / "tests" / "configs" / "llama-2-7b.json"


@pytest.fixture
def machine(tmp_path: Path) -> Pod:
    """Stand-ins with an environment in which everything is installed, at $QDSFT_BIN."""
    pod = Pod(tmp_path)
    pod.environment["REAL_PLAN"] = "1"
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("python3", "qdsft", "accelerate"):
        shutil.copy(pod.programs / name, binaries / name.replace("python3", "python"))
    caches = {"HF_HOME": "h", "TORCH_EXTENSIONS_DIR": "e", "TRITON_CACHE_DIR": "t", "PIP_CACHE_DIR": "p"}
    pod.environment |= {"QDSFT_BIN": str(binaries), **caches}
    return pod


def linter(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed; it comes with make setup")
    return found


def test_there_are_scripts() -> None:
    assert {path.name for path in SCRIPTS} >= {"train_runpod.sh", "install.sh", "train.sh", "limits.sh"}


def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        [linter("shellcheck"), "--external-sources", *map(str, SCRIPTS)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_started_and_sources_cannot(path: Path) -> None:
    sourced = path.parent.name == "lib"
    assert os.access(path, os.X_OK) != sourced
    assert path.read_text(encoding="utf-8").startswith("# shellcheck shell=bash" if sourced else "#!/usr/bin/env bash")


def test_facts_that_a_script_reads_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, method in (("qlora", "qlora"), ("lora", "lora"), ("full", "full")):
        run_dir = tmp_path / name
        assert main(["recipe", f"{ROOT}/recipes/llama2/{name}.yaml", f"training.output_dir={run_dir}", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["method"], facts["run_dir"], facts["run_state"]) == (method, str(run_dir), "none")
        assert facts["origins"]["training.output_dir"] == "command line"
        assert facts["values"]["training"]["output_dir"] == str(run_dir)


@pytest.mark.parametrize("run_dir", ["a b", "a\nb", " a ", "a\\b", "$(touch executed)", "한국", ""])
def test_values_of_a_recipe_are_read_whole(tmp_path: Path, run_dir: str) -> None:
    facts = {"name": "x-y", "method": "full", "run_state": "none", "run_dir": run_dir, "origins": {}}
    (tmp_path / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "qdsft").write_text(f"#!/bin/sh\ncat {tmp_path}/facts.json\n", encoding="utf-8")
    (tmp_path / "qdsft").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    script = (
        f"set -euo pipefail; bin={tmp_path}; source {ROOT}/scripts/lib/train.sh; read_recipe r.yaml; "
        'printf "%s|" "$run_name" "$method" "$run_state" "$run_dir" "$run_dir_origin"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"x-y|full|none|{run_dir}|default|", done.stderr
    assert not (tmp_path / "executed").exists()


def test_no_number_is_computed_that_is_none(machine: Pod) -> None:
    status, out = machine.run(QLORA, script="train_local.sh", NODES="a[$(touch executed)]")
    assert status == 1 and "NODES=a[$(touch executed)] is not a whole number" in out
    assert not (ROOT / "executed").exists()


# train_local.sh


@pytest.mark.parametrize(("cards", "config"), [("0", "cpu"), ("1", "single_gpu"), ("2", "ddp")])
def test_local_training_takes_the_cards_that_there_are(machine: Pod, cards: str, config: str) -> None:
    output = f"training.output_dir={machine.run_dir}"
    status, out = machine.run(QLORA, output, "seed=3", script="train_local.sh", FAKE_CARDS=cards)
    assert status == 0, out
    assert machine.words() == ["qdsft check", "accelerate", "qdsft evaluate"]
    call = machine.calls("accelerate")[0]
    assert call[4] == f"accelerate_configs/{config}.yaml" and (ROOT / call[4]).is_file()
    assert call[-3:] == [QLORA, output, "seed=3"]
    machine.forget()
    (machine.run_dir / "run.json").write_text("{}", encoding="utf-8")  # as one that was interrupted
    assert machine.run(QLORA, output, script="train_local.sh", EVALUATE="0")[0] == 0
    assert machine.words() == ["qdsft check", "accelerate"]
    assert machine.calls("accelerate")[0][-1] == "--resume"
    machine.forget()
    (machine.run_dir / "run.json").write_text('{"state": "finished"}', encoding="utf-8")
    assert machine.run(QLORA, output, script="train_local.sh", EVALUATE="0")[0] == 0
    # Training itself says that nothing is left to do, or what has changed since.
    assert machine.calls("accelerate")[0][-1] == "--resume"


def test_a_recipe_is_found_from_where_one_stands(machine: Pod, tmp_path: Path) -> None:
    shutil.copy(ROOT / QLORA, tmp_path / "mine.yaml")
    output = f"training.output_dir={machine.run_dir}"
    machine.folder = tmp_path
    assert machine.run("mine.yaml", output, script="train_local.sh", EVALUATE="0")[0] == 0
    assert machine.calls("accelerate")[0][-2:] == [f"{tmp_path}/mine.yaml", output]


def test_local_training_ends_with_its_first_error(machine: Pod) -> None:
    assert machine.run(QLORA, script="train_local.sh", FAKE_FAIL="check")[0] == 1
    assert machine.words() == ["qdsft check"]
    status, out = machine.run("recipes/mistral/nope.yaml", script="train_local.sh", EVALUATE="0")
    assert status == 1 and "error: recipes/mistral/nope.yaml: No such file" in out
    assert machine.calls("accelerate") == []


def test_accelerate_files_can_be_named(machine: Pod) -> None:
    named = "accelerate_configs/zero2.yaml"
    options = {"FAKE_CARDS": "2", "EVALUATE": "0"}
    assert machine.run(QLORA, script="train_local.sh", ACCELERATE_CONFIG=named, **options)[0] == 0
    assert machine.calls("accelerate")[0][4] == named
    status, out = machine.run(QLORA, script="train_local.sh", ACCELERATE_CONFIG="nope.yaml", **options)
    assert status == 1 and "error: there is no nope.yaml; name another with ACCELERATE_CONFIG=..." in out


def test_every_configuration_that_is_chosen_can_be_read() -> None:
    for name, processes in (("cpu", 1), ("single_gpu", 1), ("ddp", 2), ("zero3", 2)):
        values = yaml.safe_load((ROOT / "accelerate_configs" / f"{name}.yaml").read_text(encoding="utf-8"))
        assert values["num_processes"] == processes


# train_low_memory.sh


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(CONFIG, folder / "config.json")
    return f"model.name_or_path={folder}"


@pytest.mark.slow
def test_a_small_card_is_planned_for_first(machine: Pod, model: str) -> None:
    recipe = "recipes/llama2/qlora_8gb.yaml"
    status, out = machine.run(recipe, model, script="train_low_memory.sh", EVALUATE="0", FAKE_CARDS="2")
    assert status == 0, out
    assert machine.words() == ["qdsft check", "accelerate"]
    assert machine.calls("accelerate")[0][3:7] == [
        "--config_file",
        "accelerate_configs/single_gpu.yaml",
        "--gpu_ids",
        "0",
    ]


@pytest.mark.exhaustive
def test_a_recipe_that_does_not_fit_is_not_trained(machine: Pod, model: str) -> None:
    recipe = "recipes/llama2/lora.yaml"
    status, out = machine.run(recipe, model, script="train_low_memory.sh")
    assert status == 1 and machine.calls() == []
    assert f"error: {recipe} does not fit a GPU of 8 GiB; add the overrides that the plan lists\nFORCE=1 trains" in out
    assert machine.run(recipe, model, script="train_low_memory.sh", FORCE="1", EVALUATE="0")[0] == 0
    assert machine.words() == ["qdsft check", "accelerate"]


@pytest.mark.slow
def test_force_trains_a_model_that_the_plan_does_not_know(machine: Pod, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unknown"}', encoding="utf-8")
    arguments = ("recipes/llama2/lora.yaml", f"model.name_or_path={tmp_path}")
    status, out = machine.run(*arguments, script="train_low_memory.sh")
    assert status == 1 and machine.calls() == [] and "config.json: transformers cannot make" in out
    assert machine.run(*arguments, script="train_low_memory.sh", FORCE="1", EVALUATE="0")[0] == 0
    assert machine.words() == ["qdsft check", "accelerate"]


# docker_run.sh


def test_the_image_is_built_once_and_run_as_the_caller(machine: Pod, tmp_path: Path) -> None:
    options = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": "hf_planted"}
    assert machine.run("qdsft", "doctor", script="docker_run.sh", **options)[0] == 0
    info, inspect, build, run = machine.calls("docker")
    assert (info[1], inspect[1:3], build[1]) == ("info", ["image", "inspect"], "build")
    assert run[-3:] == ["qdsft", "qdsft", "doctor"] and run[run.index("--gpus") + 1] == "all"
    assert run[run.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert run[run.index("--env") + 1] == "HF_TOKEN" and "hf_planted" not in machine.calls_file.read_text()
    machine.forget()
    assert machine.run("qdsft", "doctor", script="docker_run.sh", FAKE_IMAGE="0", GPUS="none", **options)[0] == 0
    assert [call[1] for call in machine.calls("docker")] == ["info", "image", "run"]
    assert "--gpus" not in machine.calls("docker")[-1]


def test_no_engine_is_one_line(machine: Pod) -> None:
    status, out = machine.run("qdsft", script="docker_run.sh", FAKE_ENGINE="1")
    assert (status, out) == (1, "error: Docker does not answer; start it, or add yourself to the group docker\n")


@pytest.mark.parametrize("script", ["train_local.sh", "train_low_memory.sh", "docker_run.sh"])
def test_help_and_usage(machine: Pod, script: str) -> None:
    status, out = machine.run("--help", script=script)
    assert status == 0 and f"  scripts/{script} " in out and "set -euo" not in out
    status, out = machine.run(script=script)
    assert status == 2 and out.startswith(f"usage: scripts/{script} ")
    assert machine.calls() == []


# install.sh


def test_an_installation_is_repeated_when_something_changed_and_only_then(machine: Pod, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    steps = [
        (["deepspeed"], ["python", "pip", "pip"]),
        (["deepspeed"], []),
        (["deepspeed,dev"], ["pip", "pip"]),
    ]
    for extras, words in steps:
        machine.forget()
        status, out = machine.run(str(venv), *extras, script="install.sh")
        assert status == 0, out
        assert machine.words() == words
    requirements, package = (call[1:] for call in machine.calls("pip"))
    assert requirements[-2:] == ["-r", "requirements.txt"]
    whole = ".[deepspeed,constrained,serve,break,retrieval,korean,demo,tensorboard]"
    assert package[-6:] == ["-e", whole, "-r", str(venv / ".tools.txt"), "-c", "requirements.txt"]
    assert (venv / ".tools.txt").read_text(encoding="utf-8").splitlines() == PROJECT["dependency-groups"]["dev"]
    (venv / "bin" / "python").unlink()  # the image is another one
    machine.forget()
    assert machine.run(str(venv), "deepspeed,dev", script="install.sh")[0] == 0
    assert machine.words() == ["python", "pip", "pip"]


@pytest.mark.parametrize(("extras", "installed"), [("", "."), ("wandb", ".[wandb]"), ("devel", ".[devel]")])
def test_an_installation_without_the_tools(machine: Pod, tmp_path: Path, extras: str, installed: str) -> None:
    assert machine.run(str(tmp_path / "venv"), extras, script="install.sh")[0] == 0
    assert machine.calls("pip")[-1][-4:] == ["-e", installed, "-c", "requirements.txt"]


def test_only_the_requirements(machine: Pod, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert machine.run("--requirements-only", str(venv), script="install.sh")[0] == 0
    assert machine.words() == ["python", "pip"] and not (venv / ".ready").exists()


@pytest.mark.parametrize(
    ("arguments", "python", "message"),
    [
        (
            ["venv"],
            "exit 1",
            "error: Python 3.11 or newer is required, and python3 is older; set PYTHON=python3.12",
        ),
        (["full"], None, "full holds files that are not a virtual environment; give another folder"),
        (["/proc/venv"], None, "error: /proc/venv cannot be written; give another folder for the virtual environment"),
        ([], None, "usage: scripts/install.sh [--requirements-only] VENV [EXTRAS]"),
    ],
)
def test_folders_that_cannot_be_installed_into(
    machine: Pod, tmp_path: Path, arguments: list[str], python: str | None, message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    if python is not None:
        (machine.programs / "python3").write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
    paths = [str(tmp_path / name) for name in arguments]
    status, out = machine.run(*paths, script="install.sh", PYTHON="python3")
    assert status != 0 and message in out and out.count("\n") == 1
    assert machine.calls() == [] and (tmp_path / "full" / "thesis.txt").exists()
