"""The memory probe uses the longest rows, and leaves the run as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.gpus import pretend_gpus
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.errors import UserError
from qdsft.model.device_errors import less_memory
from qdsft.training import decode_held_out, memory_probe
from qdsft.training.memory_probe import STEPS, as_trained, longest_rows, probe_memory
from qdsft.training.preflight import preflight
from qdsft.training.run_setup import Run, build_run, prepare_run


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


@pytest.fixture
def build(make_recipe: MakeRecipe) -> Callable[..., Run]:
    def make(*overrides: str, name: str = "mistral/lora") -> Run:
        recipe = make_recipe(*overrides, name=name)
        recipe.run_dir.mkdir(exist_ok=True)
        return build_run(prepare_run(recipe))

    return make


def test_the_remedy_for_kept_layers_is_to_recompute_them(make_recipe: MakeRecipe) -> None:
    kept, recomputed = (make_recipe(f"training.activation_checkpointing={way}") for way in ("auto", "true"))
    assert less_memory(kept) == f"set training.activation_checkpointing=true, or {less_memory(recomputed)}"


@pytest.mark.parametrize("name", ["mistral/lora", pytest.param("mistral/qlora_8gb", marks=pytest.mark.slow)])
def test_the_probe_uses_the_longest_rows_and_leaves_no_trace(name: str, build: Callable[..., Run]) -> None:
    run = build("training.packing=false", name=name)
    train = run.inputs.prepared.train
    lengths = [len(row["input_ids"]) for row in longest_rows(train, 3)]
    assert lengths == sorted((len(row["input_ids"]) for row in train), reverse=True)[:3]
    trainer = run.trainer
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    state, counts = torch.get_rng_state(), trainer._total_train_tokens
    probe_memory(trainer, run.inputs.recipe)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert torch.equal(state, torch.get_rng_state()) and trainer._total_train_tokens == counts
    assert trainer.optimizer is None


@pytest.mark.slow
def test_the_probe_decodes_where_training_does(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = ("evaluation.every_steps=2", "evaluation.max_new_tokens=4", "evaluation.batch_size=3")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("planted")

    assert all(check.passed for check in preflight(make_recipe(*watched)))
    monkeypatch.setattr(decode_held_out, "generate", full)
    memory = list(preflight(make_recipe(*watched)))[-1]
    assert memory.name == "memory" and not memory.passed


def test_a_loss_that_is_not_finite_is_refused_before_training(build: Callable[..., Run]) -> None:
    run = build()
    next(iter(run.trainer.model.parameters())).data.fill_(float("nan"))
    with pytest.raises(UserError, match="is nan before training"):
        probe_memory(run.trainer, run.inputs.recipe)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_several_processes_are_measured_with_the_buckets_of_ddp(
    build: Callable[..., Run], process_group: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("training.packing=false")
    trainer = run.trainer
    assert as_trained(trainer) is trainer.model, "one process has no buckets"
    monkeypatch.setattr(type(trainer.args), "world_size", 2)
    called: list[tuple[str, bool]] = []
    compute_loss = trainer.compute_loss

    def compute(model: Any, *arguments: Any, **options: Any) -> Any:
        called.append((type(model).__name__, getattr(model, "require_backward_grad_sync", False)))
        return compute_loss(model, *arguments, **options)

    monkeypatch.setattr(trainer, "compute_loss", compute)
    probe_memory(trainer, run.inputs.recipe)
    assert called[:STEPS] == [("DistributedDataParallel", False)] * STEPS
    assert called[STEPS:] == [(type(trainer.model).__name__, False)], "an evaluation is not wrapped"
    hooks = [weight for weight in trainer.model.parameters() if weight.requires_grad and weight._backward_hooks]
    assert not hooks and all(weight.grad is None for weight in trainer.model.parameters())


def test_the_peak_of_a_gpu_is_measured_from_the_probe_on(
    build: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build("training.packing=false")
    assert probe_memory(run.trainer, run.inputs.recipe) is None
    gpus = pretend_gpus(monkeypatch, peak=3.25)
    monkeypatch.setattr(memory_probe, "fork_rng", nullcontext)
    monkeypatch.setattr(memory_probe, "_steps", lambda _: gpus.calls.append(("steps", None)))
    assert probe_memory(run.trainer, run.inputs.recipe) == 3.25
    names = [name for name, _ in gpus.calls if name not in {"is_available", "current_device"}]
    assert names == ["reset_peak_memory_stats", "steps", "empty_cache", "max_memory_allocated"]
