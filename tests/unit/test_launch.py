"""A launch runs what the launcher asked for, or an error says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import yaml
from helpers.gpus import pretend_gpus
from helpers.paths import ROOT

from qdsft import launch
from qdsft.errors import UserError
from qdsft.launch import (
    check_environment,
    check_launch,
    check_running,
    offloads_optimizer,
    process_rank,
    uses_deepspeed,
    uses_fsdp,
    waiting_for_processes,
    world_size,
    zero_stage,
)
from qdsft.model.device import find_machine

LAUNCHER = ("ACCELERATE_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_RANK")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(LAUNCHER)]:
        monkeypatch.delenv(name)


def refusal(**launch: bool) -> str:
    with pytest.raises(UserError) as caught:
        check_launch(**launch)
    return str(caught.value)


def test_without_a_launcher_one_process_runs() -> None:
    assert (world_size(), zero_stage(), uses_deepspeed(), uses_fsdp()) == (1, 0, False, False)
    check_launch(quantized=True)
    check_running(processes=1, device="cpu", deepspeed=False, fsdp=False)


def test_the_world_size_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size() == 4


def test_a_quantized_model_is_not_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    check_launch(quantized=True)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert zero_stage() == 3 and "cannot be sharded by DeepSpeed ZeRO-3" in refusal(quantized=True)
    check_launch(quantized=False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert "not sharded by FSDP" in refusal(quantized=True)


def test_the_stage_is_read_from_a_configuration_of_deepspeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 3}}', encoding="utf-8")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    assert zero_stage() == 3
    for text in ("{}", "[", "[]"):
        file.write_text(text, encoding="utf-8")
        for read in (zero_stage, offloads_optimizer):
            with pytest.raises(UserError, match="no DeepSpeed configuration"):
                read()


def test_an_optimizer_in_main_memory_is_read_from_either_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    assert not offloads_optimizer()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert offloads_optimizer()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none")
    assert not offloads_optimizer()
    file = tmp_path / "ds.json"
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    for section, offloads in (({}, False), ({"device": "none"}, False), ({"device": "cpu"}, True), (None, False)):
        file.write_text(json.dumps({"zero_optimization": {"stage": 3, "offload_optimizer": section}}), encoding="utf-8")
        assert offloads_optimizer() == offloads


def test_the_launch_is_compared_with_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="asked for 2 processes and 1 found"):
        check_running(processes=1, device="cpu", deepspeed=False, fsdp=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="asked for FSDP, which does not run"):
        check_running(processes=2, device="cpu", deepspeed=False, fsdp=False)
    check_running(processes=2, device="cuda", deepspeed=False, fsdp=True)


@pytest.mark.slow
def test_accelerate_that_starts_one_process_for_two_is_an_error() -> None:
    # The launch that looks right and trains on half of the data's updates: it exits with 0 without this check.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", "2"),
            *("scripts/run_sft.py", "recipes/tiny/full.yaml", "model.name_or_path=nowhere/at-all"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "asked for several processes and started one" in errors[0]


def test_a_launch_on_the_cpu_ignores_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch)
    assert find_machine().device_type == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")  # what accelerate launch writes otherwise
    assert find_machine().device_type == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert (find_machine().device_type, find_machine().dtype) == ("cpu", torch.float32)


WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; unset WORLD_SIZE, or"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "WORLD_SIZE without RANK, LOCAL_RANK; unset W"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "without LOCAL_RANK; unset WORLD_"),
        ({name: value for name, value in WHOLE.items() if name != "MASTER_PORT"}, "without MASTER_PORT"),
        ({"RANK": "1"}, "RANK=1 in the environment is too high for 1 process(es) (WORLD_SIZE); unset RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 in the environment is too high for 2"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK without WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT; unset LOCAL_RANK"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two in the environment is no number of a launch; unset WORLD_SIZE"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in"),
        ({"RANK": "-1"}, "RANK=-1 in"),
        ({**WHOLE, "LOCAL_RANK": "1.0"}, "LOCAL_RANK=1.0 in"),
    ],
)
def test_variables_of_half_a_launch_are_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        check_environment()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        WHOLE,
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "pod-0", "MASTER_PORT": "1"},  # a cluster's, for one process
        {"MASTER_ADDR": "pod-0"},
        {"WORLD_SIZE": "", "RANK": " ", "LOCAL_RANK": "", "MASTER_ADDR": ""},
    ],
)
def test_a_whole_launch_or_none_passes(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_environment()
    assert (process_rank(), world_size()) == ((1, 2) if variables == WHOLE else (0, 1))
    assert not any(name in os.environ for name, value in variables.items() if not value.strip())


def test_a_long_wait_for_the_other_processes_is_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "SECONDS_BEFORE_NOTICE", 0.05)
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    message = r"the 2 processes of WORLD_SIZE cannot connect at 127\.0\.0\.1:29500 \(late\)"
    with pytest.raises(UserError, match=message), waiting_for_processes(timedelta(minutes=30)):
        time.sleep(0.3)
        raise RuntimeError("late")
    assert capsys.readouterr().err == (
        "process 1 of 2 is waiting for the others at 127.0.0.1:29500, up to 0:30:00 hours; if no other process was "
        "started, unset WORLD_SIZE RANK LOCAL_RANK\n"
    )
    with waiting_for_processes(timedelta(minutes=30)):
        pass
    monkeypatch.delenv("WORLD_SIZE")
    with waiting_for_processes(timedelta(minutes=30)):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("before", "now", "asked"),
    [
        ({"MASTER_ADDR": "pod-0", "MASTER_PORT": "1"}, {"MASTER_ADDR": "pod-0", "MASTER_PORT": "1"}, False),
        ({"MASTER_ADDR": "pod-0"}, {"MASTER_ADDR": "pod-0"}, False),
        ({"MASTER_ADDR": "127.0.0.1"}, {"MASTER_ADDR": "127.0.0.1"}, False),
        ({}, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, True),
        ({"MASTER_ADDR": "pod-0"}, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, True),
        ({"MASTER_ADDR": "127.0.0.1"}, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, True),
        (dict(zip(launch.OF_A_LAUNCH[3:], launch._DEFAULT_ADDRESS, strict=True)), {}, True),  # cannot be told apart
    ],
)
def test_an_address_that_was_set_before_is_not_accelerates(
    before: dict[str, str], now: dict[str, str], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    for name, value in (now or before).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "_environment_of_parent", lambda: before)
    if asked:
        assert "asked for several processes and started one" in refusal(quantized=False)
    else:
        check_launch(quantized=False)


def test_the_environment_of_the_parent_is_read() -> None:
    code = "from qdsft.launch import _environment_of_parent as read; print(read().get('PLANTED'))"
    start = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], env={'PYTHONPATH': sys.argv[2]})"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, code, str(ROOT)], env={"PLANTED": "a=b"}, capture_output=True, text=True
    )
    assert done.stdout == ("a=b\n" if sys.platform == "linux" else "None\n")


CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
SHARDED = {"zero3", "zero3_offload", "multi_node_zero3", "fsdp2"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_sharding_configurations_shard_while_loading(path: Path) -> None:
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    zero, fsdp = settings.get("deepspeed_config", {}), settings.get("fsdp_config", {})
    shards = zero.get("zero_stage") == 3 or bool(fsdp)
    assert shards == (path.stem in SHARDED)
    if shards:
        assert zero.get("zero3_init_flag") or fsdp.get("fsdp_cpu_ram_efficient_loading")
