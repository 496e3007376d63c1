"""The device of this process, and the number format that it computes in."""

from __future__ import annotations

import pytest
import torch
from helpers.gpus import PretendedGpus, pretend_gpus

from qdsft.errors import UserError
from qdsft.model.device import CPU_DTYPE, Machine, check_own_gpu, find_machine, fork_rng


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> PretendedGpus:
    """A machine with two GPUs that have bfloat16."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    return pretend_gpus(monkeypatch, count=2)


def test_the_number_format_follows_the_machine() -> None:
    older = Machine("cuda", "a GPU without bfloat16", torch.float16)
    assert older.choose_dtype("bfloat16") == older.choose_dtype("auto") == torch.float16
    assert older.choose_dtype("float32") == torch.float32
    newer = Machine("cuda", "a GPU", torch.bfloat16)
    assert [newer.choose_dtype(name) for name in ("auto", "float16")] == [torch.bfloat16, torch.float16]
    cpu = Machine("cpu", "CPU", torch.float32)
    assert cpu.choose_dtype("bfloat16") == cpu.choose_dtype("float16") == torch.float32


def test_a_cpu_computes_in_the_format_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for value, wanted in {"": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        monkeypatch.setenv(CPU_DTYPE, value)
        cpu = find_machine()
        assert [cpu.choose_dtype(name) for name in ("auto", "bfloat16", "float32")] == [wanted, wanted, torch.float32]
    for value in ("float16", "BF16", "bfloat16 "):
        monkeypatch.setenv(CPU_DTYPE, value)
        with pytest.raises(UserError, match=f"{CPU_DTYPE} is '{value}'; set it to bfloat16 or float32"):
            find_machine()


def test_another_number_format_than_the_recipes_is_printed() -> None:
    older, newer = (Machine("cuda", "a GPU", dtype) for dtype in (torch.float16, torch.bfloat16))
    told = " (bfloat16 does not run on this GPU; float16 overflows above 65504)"
    assert older.differs("bfloat16") == older.differs("auto") == told
    assert {older.differs("float16"), newer.differs("bfloat16"), newer.differs("float16"), newer.differs("auto")} == {
        ""
    }
    cpu = Machine("cpu", "CPU", torch.float32)
    assert (cpu.differs("float16"), cpu.differs("auto")) == (" (the recipe asks for float16)", "")


def test_the_own_gpu_is_the_current_one_before_anything_asks_cuda(
    gpus: PretendedGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever asks CUDA before would open a context of some 0.5 GiB on GPU 0, once for every process."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_own_gpu()
    assert find_machine().own() == "cuda:1"
    names = [name for name, _ in gpus.calls]
    first = names.index("set_device")
    assert gpus.calls[first] == ("set_device", 1)
    assert set(names[:first]) <= {"is_available", "device_count"}, "these open no context"


def test_an_old_gpu_gets_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    pretend_gpus(monkeypatch, bfloat16=False)
    assert find_machine() == Machine("cuda", "GPU 0", torch.float16)


def test_an_apple_gpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert (find_machine().device_type, find_machine().dtype, find_machine().own()) == ("mps", torch.float32, "mps")


def test_each_process_takes_its_own_gpu(gpus: PretendedGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_machine() == Machine("cuda", "GPU 1", torch.bfloat16)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 2 has no GPU: this machine has 2; lower --num_processes"):
        find_machine()


def test_several_gpus_for_one_process_are_refused_for_training_alone(
    gpus: PretendedGpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_the_random_state_of_other_gpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.get_rng_state()
    with fork_rng():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    given: list[list[int]] = []
    pretend_gpus(monkeypatch, count=8)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: given.append(devices))
    fork_rng()
    assert given == [[5]]
