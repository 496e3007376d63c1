"""Activation checkpointing is reduced as far as the memory allows, in a plan and in a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from helpers.gpus import pretend_gpus
from helpers.model_configs import read
from helpers.paths import ROOT

from qdsft.model.device import Machine
from qdsft.planning.cards import Target
from qdsft.planning.memory.activation_checkpointing import SPARED, describe_recomputation, least_recomputation
from qdsft.planning.memory.setup import Setup, read_setup
from qdsft.planning.memory.shapes import read_shapes
from qdsft.planning.memory.training_memory import GIB, training_peak
from qdsft.planning.plan import make_plan
from qdsft.recipe import load_recipe
from qdsft.training import checkpointing_choice
from qdsft.training.build import build_arguments
from qdsft.training.checkpointing_choice import CheckpointingChoice, choose_checkpointing

MISTRAL = ROOT / "tests" / "configs" / "mistral-7b-v0.3.json"
SHAPES = read_shapes(read(MISTRAL), "x")
CPU = Machine("cpu", "CPU", torch.float32)


def chosen(memory: float) -> Setup:
    setup = read_setup(load_recipe(ROOT / "recipes/mistral/qlora.yaml"), length=1024)
    return least_recomputation(SHAPES, setup, int(memory * GIB))


def test_more_memory_means_less_checkpointing_and_each_choice_fits() -> None:
    found = [chosen(memory / 4) for memory in range(16, 64)]
    shares = [setup.checkpointing / setup.every_n_layers for setup in found]
    assert shares == sorted(shares, reverse=True) and set(shares) == {1, 1 / 2, 1 / 3, 1 / 4, 0}
    for memory, setup in zip(range(16, 64), found, strict=True):
        if shares[memory - 16] < 1:
            assert training_peak(SHAPES, setup).total <= (1 - SPARED) * memory / 4 * GIB
    assert describe_recomputation(replace(found[0], every_n_layers=2)) == "one layer in 2 is recomputed"


@pytest.mark.parametrize(
    ("memory", "words"), [(8, "every layer is recomputed, chosen"), (24, "no layer is recomputed, chosen")]
)
def test_plan_says_what_it_chose(memory: int, words: str, tmp_path: Path) -> None:
    from qdsft.planning.table import report

    (tmp_path / "config.json").write_text(MISTRAL.read_text(encoding="utf-8"), encoding="utf-8")
    path = str(ROOT / "recipes/mistral/qlora.yaml")
    plan = make_plan(path, [f"model.name_or_path={tmp_path}"], Target(memory * GIB))
    assert any(words in line for line in report(plan))
    chosen = plan.to_json()["recomputation"]
    assert chosen["chosen"] and chosen["activation_checkpointing"] == (memory == 8)
    assert plan.largest_length and plan.largest_length > 4096, "longer rows are computed with every layer twice"


def test_the_value_of_the_recipe_is_used() -> None:
    recipe = load_recipe(ROOT / "recipes/tiny/full.yaml", ["training.activation_checkpointing=true"])
    assert choose_checkpointing(recipe, CPU, 64) is None


@pytest.mark.parametrize(("free", "every"), [(10**12, 0), (10**6, 1)])
def test_a_run_decides_by_what_is_free(
    free: int, every: int, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing_choice, "free_memory", lambda machine: free)
    recipe = load_recipe(ROOT / "recipes/tiny/full.yaml", [f"model.name_or_path={tiny_model('llama')}"])
    decision = choose_checkpointing(recipe, CPU, 64)
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


def test_every_layer_of_an_unknown_architecture_is_checkpointed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "none"}), encoding="utf-8")
    recipe = load_recipe(ROOT / "recipes/tiny/full.yaml", [f"model.name_or_path={tmp_path}"])
    decision = choose_checkpointing(recipe, CPU, 64)
    assert decision is not None and decision.checkpointing and "not modelled" in decision.line


def test_on_a_gpu_its_own_free_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    free = checkpointing_choice.free_memory(Machine("cuda", "a card", torch.bfloat16))
    assert free == 6 * GIB + GIB // 2, "the context is taken already"
    assert checkpointing_choice.free_memory(Machine("mps", "Apple GPU", torch.float32)) is None


def test_every_layer_is_checkpointed_for_a_custom_loss(tiny_model: Callable[[str], Path]) -> None:
    overrides = [f"model.name_or_path={tiny_model('llama')}", "training.loss_type=loss.py:mine"]
    decision = choose_checkpointing(load_recipe(ROOT / "recipes/tiny/full.yaml", overrides), CPU, 64)
    assert decision is not None and decision.checkpointing and "custom loss" in decision.line


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gpu_is_planned_with_its_own_number_format(
    dtype: torch.dtype, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, bfloat16=dtype == torch.bfloat16)
    recipe = load_recipe(ROOT / "recipes/tiny/full.yaml", [f"model.name_or_path={tiny_model('llama')}"])
    decision = choose_checkpointing(recipe, Machine("cuda", "a GPU", dtype), 64)
    assert decision is not None and not decision.checkpointing and "6.5 GiB free" in decision.line
