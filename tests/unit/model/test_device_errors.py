"""Errors of the device become one line with the stage and a remedy, wherever they are raised."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from helpers.tiny_run import make_run
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, Trainer

from qdsft.errors import UserError
from qdsft.inference import generate
from qdsft.inference.decomposer import Decomposer
from qdsft.model.device_errors import device_errors, is_out_of_memory, less_memory
from qdsft.training import train as training
from qdsft.training.checks import run_checks
from qdsft.training.run_setup import build_run, prepare_run

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("HIP out of memory. Tried to allocate 1 GiB."),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    SafetensorError("Error while deserializing header: Cannot allocate memory (os error 12)"),
]
PLANTED = OUT_OF_MEMORY[:4]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def fails_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__} {str(error)[:30]}")
def test_out_of_memory_names_the_stage_and_the_remedy(error: Exception) -> None:
    assert is_out_of_memory(error)
    with (
        pytest.raises(UserError, match=r"^out of memory while baking; buy more$"),
        device_errors("baking", "buy more"),
    ):
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("CUDA error: device-side assert triggered\nmore"),
            "failed while baking (CUDA error: device-side",
        ),
        (
            torch.AcceleratorError("an illegal memory access"),
            "the device failed while baking (an illegal memory access)",
        ),
        (
            RuntimeError("Found no NVIDIA driver on your system"),
            "failed while baking (Found no NVIDIA driver",
        ),
        (RuntimeError("CUDNN_STATUS_NOT_INITIALIZED"), "failed while baking (CUDNN_STATUS_NOT_INITIALIZED)"),
        (RuntimeError("Connection closed by peer [127.0.0.1]:1"), "another process of this launch ended or cannot be"),
        (torch.distributed.DistBackendError("timed out"), "another process of this launch ended or cannot be reached"),
    ],
)
def test_other_errors_of_the_device_name_the_stage(error: Exception, message: str) -> None:
    with pytest.raises(UserError) as caught, device_errors("baking", "buy more"):
        raise error
    assert message in str(caught.value) and "buy more" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "full"), KeyError("cuda error"), UserError("mine")],
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, device_errors("baking", "buy more"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", PLANTED, ids=lambda error: str(error)[:30])
def test_training_says_at_which_stage_memory_ran_out(
    error: Exception, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    inputs = prepare_run(recipe)
    with monkeypatch.context() as planted:
        planted.setattr(AutoModelForCausalLM, "from_pretrained", fails_with(error))
        with pytest.raises(UserError, match=r"memory while loading the weights of .*; set quantization\.load_in_4bit"):
            build_run(inputs)
    with monkeypatch.context() as planted:
        planted.setattr(Trainer, "_move_model_to_device", fails_with(error))
        with pytest.raises(UserError, match=r"memory while moving the model of .*; set quantization\.load_in_4bit"):
            build_run(inputs)
    recipe.run_dir.mkdir()
    run = build_run(inputs)
    with monkeypatch.context() as planted:
        planted.setattr(run.trainer.model, "forward", fails_with(error))
        failed = {check.name: check.found for check in run_checks(run, thorough=True) if not check.passed}
        assert failed.keys() == {"isolation", "loss", "memory"}
        assert failed["isolation"].startswith("out of memory while checking isolation before the first step; ")
        assert all(found.endswith(less_memory(recipe)) for found in failed.values())
        planted.setattr(training, "require_checks", lambda _: [])
        with pytest.raises(UserError, match=r"out of memory while training .*lora\.yaml; set training\.activation"):
            training._take_steps(run, None)
    with monkeypatch.context() as planted:
        planted.setattr(training, "_take_steps", lambda *_: None)
        planted.setattr(training, "save_weights", fails_with(error))
        with pytest.raises(UserError, match=r"out of memory while saving the weights of .*; resume with: qdsft train"):
            training.train(recipe, overwrite=True)


@pytest.mark.parametrize("error", PLANTED, ids=lambda error: str(error)[:30])
def test_answering_says_at_which_stage_memory_ran_out(
    error: Exception, tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), lora_scale=0.1)
    decompose = Decomposer(run_dir)
    stages = {
        "loading the weights": (AutoModelForCausalLM, "from_pretrained"),
        "loading the adapter": (PeftModel, "from_pretrained"),
        "moving the model": (PeftModel, "to"),
    }
    for stage, (owner, name) in stages.items():
        with monkeypatch.context() as planted:
            planted.setattr(owner, name, fails_with(error))
            with pytest.raises(UserError, match=f"out of memory while {stage} .*; end other programs"):
                Decomposer(run_dir)
    monkeypatch.setattr(generate.Batch, "run", fails_with(error))
    with pytest.raises(UserError, match="do not fit into memory; shorten the question"):
        decompose("Who is older, Ada or Bo?")
    monkeypatch.setattr(generate, "Batch", fails_with(RuntimeError("CUDA error: unspecified launch failure")))
    with pytest.raises(UserError, match="the device failed while decoding answers of"):
        decompose("Who is older, Ada or Bo?")
