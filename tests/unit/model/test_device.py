"""The device of this process, and the number format that it computes in."""

from __future__ import annotations

import pytest
import torch

from qdsft.errors import UserError
from qdsft.model.device import Machine, check_own_gpu, find_machine


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs that have bfloat16."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)


def test_the_number_format_follows_the_machine() -> None:
    older = Machine("cuda", "a GPU without bfloat16", torch.float16)
    assert older.choose_dtype("bfloat16") == older.choose_dtype("auto") == torch.float16
    assert older.choose_dtype("float32") == torch.float32
    assert Machine("cpu", "CPU", torch.float32).choose_dtype("bfloat16") == torch.float32


def test_each_process_takes_its_own_gpu(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_machine() == Machine("cuda", "GPU 1", torch.bfloat16)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 2 has no GPU: this machine has 2; lower --num_processes"):
        find_machine()


def test_several_gpus_for_one_process_are_refused_for_training_alone(
    gpus: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match="2 GPUs are visible to one process; start with accelerate launch"):
        check_own_gpu()
    assert find_machine() == Machine("cuda", "GPU 0", torch.bfloat16)
    assert capsys.readouterr().err.startswith("2 GPUs are visible; this process uses GPU 0 (set CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_own_gpu()
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    check_own_gpu()
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_own_gpu()
    assert find_machine().device_type == "cuda" and capsys.readouterr().err == ""
