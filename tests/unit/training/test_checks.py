"""Every check of a run can fail: each planted fault fails its own check and no other."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from helpers.tiny_trainer import make_trainer

from qdsft.errors import UserError
from qdsft.model.device import Machine
from qdsft.runs.manifest import read_manifest
from qdsft.tokenization.row_files import of_rows
from qdsft.tokenization.rows import Row
from qdsft.training import checks, memory_probe, saved_weights
from qdsft.training.checks import check_disk, read_samples, run_checks
from qdsft.training.run_setup import Run, build_run, prepare_run
from qdsft.training.train import train

CHECKS = ["stop token", "loss mask", "BOS", "prompt ids", "loss", "isolation", "disk", "trial save"]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def failed(run: Run) -> dict[str, str]:
    return {check.name: check.found for check in run_checks(run, thorough=True) if not check.passed}


def _raise(message: str) -> Callable[[str], str]:
    def fail(_: str) -> str:
        raise UserError(message)

    return fail


def _raise_out_of_memory(_: Any) -> None:
    raise torch.OutOfMemoryError("planted")


def _with_rows(run: Run, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Run:
    prepared = replace(run.inputs.prepared, train=run.inputs.prepared.train.map(change))
    return replace(run, inputs=replace(run.inputs, prepared=prepared))


@pytest.mark.slow
def test_each_planted_fault_fails_its_own_check(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_recipe("publish.hub_model_id=user/name", name="mistral/qlora_8gb")
    recipe.run_dir.mkdir()
    run = build_run(prepare_run(recipe))
    monkeypatch.setattr(checks, "check_write", lambda name: "user")
    assert failed(run) == {}
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(checks, "check_write", _raise("may not write"))
        assert failed(run) == {"Hub": "may not write"}
    other_stop = replace(run, inputs=replace(run.inputs, stop_ids=[10**6]))
    assert set(failed(other_stop)) == {"stop token"}
    assert set(failed(_with_rows(run, lambda row: {**row, "labels": row["input_ids"]}))) == {"loss mask"}
    bos = run.trainer.processing_class.bos_token_id
    twice = _with_rows(run, lambda row: {**row, "input_ids": [bos, bos, *row["input_ids"][2:]]})
    assert set(failed(twice)) == {"BOS"}
    golden = copy.deepcopy(run.inputs.prepared)
    golden.facts.golden_prompts[0].ids[3] += 1
    assert set(failed(replace(run, inputs=replace(run.inputs, prepared=golden)))) == {"prompt ids"}
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
        assert "free some space" in failed(run)["disk"]
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(saved_weights, "expected_tensors", lambda _: {"missing": torch.ones(1)})
        assert "were not saved" in failed(run)["trial save"]
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(memory_probe, "_steps", _raise_out_of_memory)
        assert "out of memory while training on the longest rows" in failed(run)["memory"]
        assert "lower training.per_device" in failed(run)["memory"]
    head = run.trainer.model.get_output_embeddings()
    scaled = head.register_forward_hook(lambda _, __, logits: logits * 3)  # which TRL does not call
    assert set(failed(run)) == {"loss"}
    scaled.remove()
    collate = run.trainer.data_collator

    def leaking(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(rows)
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}

    run.trainer.data_collator = leaking
    assert "see each other" in failed(run)["isolation"]


@pytest.mark.slow
def test_training_records_its_checks_and_stops_at_a_failed_one(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    assert [check.name for check in read_manifest(train(recipe)).results.preflight] == CHECKS
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    with pytest.raises(UserError, match="free some space"):
        train(recipe, overwrite=True)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    recipe.run_dir.mkdir()
    trainer = make_trainer(recipe)
    assert check_disk(recipe.run_dir, trainer, recipe).needed > 2**20
    usage = shutil.disk_usage(recipe.run_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        UserError, match=r"1\.5 MiB are needed for \d checkpoints and the result, and 0\.0 MiB are free"
    ):
        check_disk(recipe.run_dir, trainer, recipe)


def test_samples_are_taken_out_of_their_packed_rows(make_recipe: MakeRecipe) -> None:
    prepared = prepare_run(make_recipe()).prepared
    assert "seq_lengths" in prepared.train.column_names
    samples = list(read_samples(prepared))
    assert len(samples) == prepared.facts.data.train_rows
    assert sum(len(sample.ids) for sample in samples) == prepared.facts.tokens.tokens
    plain = replace(prepared, train=of_rows([Row([1, 50, 2], 1), Row([1, 60, 61, 2], 2)]))
    assert [sample.ids for sample in read_samples(plain)] == [[1, 50, 2], [1, 60, 61, 2]]


@pytest.mark.parametrize(
    ("overrides", "checked"),
    [
        (("training.packing=true",), True),
        (("training.packing=false", "training.padding_free=true"), True),
        (("training.packing=true", "training.padding_free=true"), True),
        (("training.packing=false",), False),
    ],
)
def test_samples_that_share_a_row_are_checked(
    overrides: tuple[str, ...], checked: bool, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(*overrides)
    recipe.run_dir.mkdir()
    found = {check.name: check for check in run_checks(build_run(prepare_run(recipe)), thorough=False)}
    assert ("isolation" in found) is checked and all(check.passed for check in found.values())


@pytest.mark.parametrize(("device", "preflight"), [("cuda", True), ("cuda", False), ("cpu", True)])
def test_the_memory_is_probed_on_a_gpu_unless_preflight_is_off(
    device: str, preflight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(checks, "run_checks", lambda run, thorough: asked.append(thorough) or iter(()))  # type: ignore[func-returns-value]
    recipe, machine = SimpleNamespace(preflight=preflight), Machine(device, "", torch.bfloat16)
    run: Any = SimpleNamespace(inputs=SimpleNamespace(recipe=recipe, machine=machine))
    assert checks.require_checks(run) == [] and asked == [device == "cuda" and preflight]
