"""The SkyPilot files: against SkyPilot's own loader where it is installed, and what they start in any case."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from helpers.stand_ins import Pod

TASK = ROOT / "cloud" / "runpod.sky.yaml"
LOAD = """
import sys, yaml
from sky.utils import common_utils, dag_utils, schemas
[task] = dag_utils.load_chain_dag_from_yaml(sys.argv[1]).tasks
[resources] = task.resources
assert str(resources.cloud) == "RunPod" and resources.use_spot, resources
with open(sys.argv[2]) as file:
    common_utils.validate_schema(yaml.safe_load(file), schemas.get_volume_schema(), "volume: ")
print("valid")
"""


def values() -> dict[str, str]:
    task = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    return {**task["envs"], **task["secrets"]}


@pytest.mark.slow
def test_skypilot_takes_both_files(tmp_path: Path) -> None:
    python = os.environ.get("QDSFT_SKY_PYTHON")
    if python is None and (sky := shutil.which("sky")):
        python = str(Path(sky).resolve().parent / "python")
    if python is None:
        pytest.skip("SkyPilot is not installed; in a separate environment: pip install 'skypilot[runpod]==0.14.1'")
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    files = [str(TASK), str(TASK.with_name("volume.sky.yaml"))]
    done = subprocess.run([python, "-c", LOAD, *files], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("valid\n"), done.stderr


def test_the_volume_is_the_one_that_is_made() -> None:
    task = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    volume = yaml.safe_load(TASK.with_name("volume.sky.yaml").read_text(encoding="utf-8"))
    assert task["volumes"] == {task["envs"]["VOLUME"]: volume["name"]}
    assert volume["type"] == "runpod-network-volume" and task["resources"]["infra"] == "runpod"


def test_no_secret_is_in_the_files() -> None:
    assert yaml.safe_load(TASK.read_text(encoding="utf-8"))["secrets"] == {"HF_TOKEN": ""}
    patterns = set((ROOT / ".skyignore").read_text(encoding="utf-8").splitlines())
    assert {".env", ".git", ".venv", "outputs", "models"} <= patterns and "/data/*.jsonl" not in patterns


def test_setup_and_run_do_what_they_say(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    task = yaml.safe_load(TASK.read_text(encoding="utf-8"))
    overrides = "training.max_steps=100 'prompt.system=Be brief'"
    sky = {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    given = {"RECIPE": "recipes/mistral/qlora_8gb.yaml", "OVERRIDES": overrides, "VOLUME": str(pod.volume)}
    environment = pod.environment | values() | sky | given
    for part in ("setup", "run"):
        command = ["bash", "-euo", "pipefail", "-c", task[part]]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(pod.calls("pip")) == 2  # the installation of the setup is the one of the run
    [call] = pod.calls("accelerate")
    assert {"training.save_steps=50", "training.max_steps=100", "prompt.system=Be brief"} <= set(call)
    assert pod.words()[-1] == "qdsft evaluate"


def run_with(tmp_path: Path, overrides: str) -> tuple[int, str, list[str]]:
    """Return status, output and the overrides that reach the script."""
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "train_runpod.sh"
    script.write_text('#!/usr/bin/env bash\nfor word in "${@:4}"; do echo "<$word>"; done\n', encoding="utf-8")
    script.chmod(0o755)
    sky = {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.1"}
    environment = {**os.environ, **values(), **sky, "OVERRIDES": overrides}
    run = yaml.safe_load(TASK.read_text(encoding="utf-8"))["run"]
    done = subprocess.run(["bash", "-c", run], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]
    return done.returncode, done.stderr, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("", []),
        ("  ", []),
        ("a.b=1 c.d=2", ["a.b=1", "c.d=2"]),
        ("'prompt.system=Be brief' \"x=a  b\" y=\\'", ["prompt.system=Be brief", "x=a  b", "y='"]),
        ("$(touch executed) `touch executed` ; touch executed", ["$(touch", "executed)", "`touch", "executed`"]),
        ("x=$HOME y=* z=a;b", ["x=$HOME", "y=*", "z=a;b"]),
        ("x=${IFS}>executed", ["x=${IFS}>executed"]),
    ],
)
def test_overrides_are_split_and_never_run(tmp_path: Path, overrides: str, words: list[str]) -> None:
    status, _, found = run_with(tmp_path, overrides)
    assert status == 0 and found[: len(words)] == [f"<{word}>" for word in words]
    assert len(found) == len(words) or ";" in overrides


@pytest.mark.parametrize("overrides", ["'open", '"open', "a 'b\nc'"])
def test_overrides_with_broken_quotes_are_refused(tmp_path: Path, overrides: str) -> None:
    status, said, _ = run_with(tmp_path, overrides)
    assert status == 1 and "error: OVERRIDES: correct its quotes" in said


def test_the_address_of_the_first_machine_reaches_accelerate(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    run = yaml.safe_load(TASK.read_text(encoding="utf-8"))["run"]
    sky = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    given = {"RECIPE": "recipes/mistral/lora.yaml", "VOLUME": str(pod.volume), "FAKE_CARDS": "4"}
    subprocess.run(["bash", "-c", run], cwd=ROOT, env=pod.environment | values() | sky | given, capture_output=True)
    [call] = pod.calls("accelerate")
    assert "--num_processes 8 --machine_rank 1 --main_process_ip 10.0.0.1" in " ".join(call)
