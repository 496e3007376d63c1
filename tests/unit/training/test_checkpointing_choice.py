"""Activation checkpointing is reduced as far as the memory allows, in a plan and in a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from helpers.gpus import pretend_gpus
from helpers.paths import ROOT
from transformers import AutoConfig

from qdsft.model.device import Machine
from qdsft.planning.peak import GIB
from qdsft.recipe import Recipe, load_recipe
from qdsft.training import checkpointing_choice
from qdsft.training.build import CheckpointingChoice, build_arguments
from qdsft.training.checkpointing_choice import choose_checkpointing

CPU = Machine("cpu", "CPU", torch.float32)


def choose(recipe: Recipe, machine: Machine = CPU) -> CheckpointingChoice | None:
    return choose_checkpointing(recipe, machine, 64, AutoConfig.from_pretrained(recipe.model.name_or_path))


def tiny_recipe(tiny_model: Callable[[str], Path], *overrides: str) -> Recipe:
    path = ROOT / "recipes/tiny/full.yaml"
    return load_recipe(path, [f"model.name_or_path={tiny_model('llama')}", *overrides])


def test_the_value_of_the_recipe_is_used(tiny_model: Callable[[str], Path]) -> None:
    assert choose(tiny_recipe(tiny_model, "training.activation_checkpointing=true")) is None


@pytest.mark.parametrize(("free", "every"), [(10**12, 0), (10**6, 1)])
def test_a_run_decides_by_what_is_free(
    free: int, every: int, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing_choice, "free_memory", lambda machine: free)
    decision = choose(tiny_recipe(tiny_model))
    assert decision is not None and decision.checkpointing == bool(every)
    assert decision.line.startswith(f"activation checkpointing: {'every' if every else 'no'} layer")


def test_layers_between_are_counted_as_transformers_counts_them(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    recipe = load_recipe(
        ROOT / "recipes/tiny/full.yaml", [f"training.output_dir={tmp_path}", "training.report_to=none"]
    )
    arguments = build_arguments(recipe, CPU, checkpointing=CheckpointingChoice(True, 2, ""))
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model("llama"))
    model.gradient_checkpointing_enable(**dict(arguments.activation_checkpointing_kwargs))
    flags = [layer.gradient_checkpointing for layer in model.model.layers]
    assert flags == [number % 2 == 0 for number in range(len(flags))]


def test_every_layer_is_checkpointed_where_the_step_cannot_be_traced(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "transformers.models.llama.modeling_llama.LlamaMLP.forward"
    monkeypatch.setattr(name, lambda _, hidden: hidden * hidden.sum().item())
    decision = choose(tiny_recipe(tiny_model))
    assert decision is not None and decision.checkpointing and "not traced: a step of" in decision.line


def test_on_a_gpu_its_own_free_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    free = checkpointing_choice.free_memory(Machine("cuda", "a card", torch.bfloat16))
    assert free == 6 * GIB + GIB // 2, "the context is taken already"
    assert checkpointing_choice.free_memory(Machine("mps", "Apple GPU", torch.float32)) is None


def test_every_layer_is_checkpointed_for_a_custom_loss(tiny_model: Callable[[str], Path]) -> None:
    decision = choose(tiny_recipe(tiny_model, "training.loss_type=loss.py:mine"))
    assert decision is not None and decision.checkpointing and "custom loss" in decision.line


@pytest.mark.parametrize("sharded", ["ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"])
def test_every_layer_of_a_sharded_model_is_checkpointed(
    sharded: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sharded, "true")
    decision = choose(tiny_recipe(tiny_model))
    assert decision is not None and decision.checkpointing and "sharded" in decision.line


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gpu_is_planned_with_its_own_number_format(
    dtype: torch.dtype, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, bfloat16=dtype == torch.bfloat16)
    decision = choose(tiny_recipe(tiny_model), Machine("cuda", "a GPU", dtype))
    assert decision is not None and not decision.checkpointing and "6.5 GiB free" in decision.line
