"""A launch runs what the launcher asked for, or an error says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.launch import check_launch, check_running, uses_deepspeed, uses_fsdp, world_size, zero_stage
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
        with pytest.raises(UserError, match="no DeepSpeed configuration"):
            zero_stage()


def test_what_runs_is_compared_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert find_machine().device == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")  # what accelerate launch writes otherwise
    assert find_machine().device == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert (find_machine().device, find_machine().dtype) == ("cpu", torch.float32)
