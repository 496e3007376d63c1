"""The machine as it is here, and with faults planted: a driver from a stand-in, no compiler, a torch without CUDA."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from helpers.gpus import pretend_gpus

from qdsft.planning.doctor import machine_checks
from qdsft.planning.doctor.machine_checks import Cards, ask_driver

ONE = Cards(("NVIDIA H100 (81559 MiB)",), "580.95.05")
TWO = Cards(ONE.names * 2, ONE.driver)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def plant(programs: Path, name: str, body: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    (programs / name).chmod(0o755)


def test_no_driver_is_a_note(programs: Path) -> None:
    assert ask_driver() == Cards()
    assert machine_checks.driver(Cards()).status == "note"


@pytest.mark.parametrize(
    ("version", "status"), [("580.95.05", "ok"), ("595.1", "ok"), ("575.57.08", "failed"), ("470.256", "failed")]
)
def test_an_old_driver_is_seen(programs: Path, version: str, status: str) -> None:
    plant(programs, "nvidia-smi", f'echo "NVIDIA H100, 81559 MiB, {version}"; echo "NVIDIA L4, 23034 MiB, {version}"')
    finding = machine_checks.driver(ask_driver())
    assert finding.status == status
    assert finding.found == f"{version}, GPUs: NVIDIA H100 (81559 MiB), NVIDIA L4 (23034 MiB)"
    assert ("580 or newer" in finding.remedy) == (status == "failed")


@pytest.mark.parametrize(("release", "status"), [("12.8", "ok"), ("13.0", "failed")])
def test_the_driver_is_held_against_the_cuda_of_torch(
    release: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", release)
    assert machine_checks.driver(Cards(ONE.names, "550.54")).status == status


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("echo No devices were found; exit 6", "nvidia-smi fails: No devices were found"),
        ("echo Driver/library version mismatch >&2; exit 18", "nvidia-smi fails: Driver/library version mismatch"),
        ("exit 0", "nvidia-smi fails: nothing"),
        ("exec /bin/sleep 30", "nvidia-smi has not answered in 0.2 s"),
    ],
)
def test_a_driver_that_does_not_answer_is_seen(
    programs: Path, body: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "SECONDS", 0.2 if "sleep" in body else 20)
    plant(programs, "nvidia-smi", body)
    finding = machine_checks.driver(ask_driver())
    assert (finding.status, finding.found) == ("failed", found)


def test_torch_against_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_checks.torch_build(Cards()).status == "ok"
    monkeypatch.setattr(torch.version, "cuda", None)
    finding = machine_checks.torch_build(ONE)
    assert finding.status == "failed" and f"pip install torch=={torch.__version__.split('+')[0]}" in finding.remedy
    assert "--index-url" not in finding.remedy
    monkeypatch.setattr(sys, "platform", "win32")
    assert "with the --index-url that pytorch.org/get-started/locally shows" in machine_checks.torch_build(ONE).remedy
    monkeypatch.undo()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine_checks.torch_build(ONE).found.endswith("CUDA 13.0, sees no GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_there_are_notes() -> None:
    assert {machine_checks.gpus_work().status, machine_checks.number_format().status} == {"note"}


def test_four_bit_weights_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_checks.four_bit().status == "ok"
    monkeypatch.setattr("bitsandbytes.functional.dequantize_4bit", lambda quantized, state: torch.zeros(128, 128))
    assert machine_checks.four_bit().status == "failed"


def test_installed_attention_kernels_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "installed_version", lambda package: {"kernels": "0.18.2"}.get(package))
    finding = machine_checks.attention()
    assert (finding.status, finding.found) == ("ok", "sdpa runs; flash-attn not installed, kernels 0.18.2")


def test_a_flash_attention_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c10')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(machine_checks, "installed_version", lambda package: {"flash-attn": "2.8.3"}.get(package))
    finding = machine_checks.attention()
    assert finding.status == "note" and "flash-attn 2.8.3" in finding.found
    assert "flash-attn cannot be imported: undefined symbol: _ZN3c10" in finding.found
    assert f"for torch {torch.__version__}" in finding.remedy


@pytest.mark.slow
def test_a_missing_compiler_matters_with_several_cards(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepspeed")
    for cards, status in ((Cards(), "note"), (ONE, "note"), (TWO, "failed")):
        finding = machine_checks.deepspeed(cards)
        assert finding.status == status and "no g++" in finding.found and "apt-get install g++" in finding.remedy
    plant(programs, "g++", "exit 0")
    plant(programs, "ninja", "exit 0")
    finding = machine_checks.deepspeed(TWO)
    if "Python.h" not in finding.found:
        assert finding.status == "ok" and finding.found.endswith(", g++")


def test_deepspeed_compiles_its_cpu_adam_without_nvcc() -> None:
    """Where this fails, `doctor` and `check_offload` must look for nvcc, and docs/CONTAINERS.md must say so."""
    accelerator = pytest.importorskip("deepspeed.accelerator.cuda_accelerator").CUDA_Accelerator
    compiled_by_nvcc = pytest.importorskip("deepspeed.ops.op_builder.builder").CUDAOpBuilder
    builder = accelerator.get_op_builder(accelerator.__new__(accelerator), "CPUAdamBuilder")
    assert builder is not None and not issubclass(builder, compiled_by_nvcc)
    assert not any(source.endswith(".cu") for source in builder().sources())


def test_no_deepspeed_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "installed_version", lambda package: None)
    assert machine_checks.deepspeed(TWO).status == "note"


@pytest.mark.parametrize(("free", "status"), [(7.9, "ok"), (6.0, "note")])
def test_every_gpu_multiplies_and_tells_its_free_memory(
    free: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, count=2, free=free)
    made, ones = list[str](), torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: made.append(device) or ones(*size))  # type: ignore[func-returns-value]
    finding = machine_checks.gpus_work()
    assert made == ["cuda:0", "cuda:1"] and finding.status == status
    assert finding.found.startswith(f"GPU 0, compute 8.9, {free} of 8.0 GiB free; GPU 1, ")
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size) * 2)
    assert machine_checks.gpus_work().status == "failed"


def test_a_gpu_without_bfloat16_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch)
    assert machine_checks.number_format().status == "ok"
    pretend_gpus(monkeypatch, bfloat16=False)
    assert "use float16 instead" in machine_checks.number_format().found
