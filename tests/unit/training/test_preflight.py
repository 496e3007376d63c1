"""`qdsft preflight`: every line can turn red, and the probe leaves no trace."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.model.device import find_machine
from qdsft.model.loading import load_config, load_model, load_tokenizer, stop_token_ids
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.manifest import read_manifest
from qdsft.tokenization.prepared import Prepared, prepare
from qdsft.training import checks, decode_held_out, memory_probe, saved_weights
from qdsft.training.build import build_config, build_trainer
from qdsft.training.checks import Readiness
from qdsft.training.memory_probe import less_memory, longest_rows, probe_memory
from qdsft.training.preflight import preflight
from qdsft.training.train import train

pytestmark = pytest.mark.slow

LINES = ["data", "model", "stop token", "loss mask", "BOS", "prompt ids", "isolation", "disk", "trial save", "memory"]


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Recipe]:
    data = tmp_path / "rows.jsonl"
    row = '{"question": "How old is number %d%s?", "sub_questions": ["Who is number %d?", "How old is #1?"]}\n'
    data.write_text("".join(row % (i, " or so" * (i % 7), i) for i in range(40)), encoding="utf-8")

    def make(*overrides: str, name: str = "mistral/qlora_8gb") -> Recipe:
        fixed = [
            f"model.name_or_path={tiny_model('mistral')}",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0.2",
            f"training.output_dir={tmp_path / 'run'}",
            "training.max_steps=2",
            "training.max_length=256",
            "training.report_to=none",
        ]
        return load_recipe(ROOT / f"recipes/{name}.yaml", [*fixed, *overrides])

    return make


def make_ready(recipe: Recipe) -> Readiness:
    recipe.run_dir.mkdir(exist_ok=True)
    config, tokenizer = load_config(recipe), load_tokenizer(recipe)
    stop_ids = stop_token_ids(recipe, tokenizer, config)
    prepared = prepare(recipe, tokenizer, stop_ids)
    model = load_model(recipe, find_machine(), trainable=True)
    arguments = build_config(recipe, find_machine(), recipe.run_dir)
    trainer = build_trainer(recipe, arguments, model, tokenizer, prepared.train, prepared.eval)
    return Readiness(recipe, trainer, prepared, stop_ids)


def found(ready: Readiness) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.passed, check.found) for check in ready.checks(thorough=True)}


def test_every_line_holds_for_a_good_recipe_and_nothing_stays_behind(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    checks = list(preflight(make_recipe()))
    assert [(check.name, check.passed) for check in checks] == [(name, True) for name in LINES]
    assert "GiB modelled for a CUDA card" in checks[-1].found
    assert [path.name for path in tmp_path.iterdir() if "run" in path.name] == []


def test_the_command_prints_a_table_and_fails_with_the_remedy(
    make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe()
    overrides = [f"{key}={json.dumps(value)}" for key, value, origin in recipe.rows() if origin == "command line"]
    assert main(["preflight", str(recipe.path), *overrides]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines] == LINES and all(" ok " in line for line in lines)
    assert main(["preflight", str(recipe.path), *overrides, 'lora.target_modules=["nowhere"]']) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("model        FAILED") and "nowhere" in captured.out
    assert captured.err.splitlines()[-1] == "error: 1 of 2 checks failed; each says what to do"


def test_each_planted_fault_turns_its_own_line_red(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = make_ready(make_recipe("publish.hub_model_id=user/name"))
    monkeypatch.setattr(checks, "check_write", lambda name: "user")

    def red(fault: Readiness) -> dict[str, str]:
        return {name: text for name, (passed, text) in found(fault).items() if not passed}

    assert red(ready) == {}
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(checks, "check_write", _raise("may not write"))
        assert red(ready) == {"Hub": "may not write"}
    other_stop = Readiness(ready.recipe, ready.trainer, ready.prepared, [10**6])
    assert set(red(other_stop)) == {"stop token"}
    assert set(red(_with_rows(ready, lambda row: {**row, "labels": row["input_ids"]}))) == {"loss mask"}
    bos = ready.trainer.processing_class.bos_token_id
    twice = _with_rows(ready, lambda row: {**row, "input_ids": [bos, bos, *row["input_ids"][2:]]})
    assert set(red(twice)) == {"BOS"}
    golden = copy.deepcopy(ready.prepared)
    golden.golden_prompts[0]["ids"][3] += 1
    assert set(red(Readiness(ready.recipe, ready.trainer, golden, ready.stop_ids))) == {"prompt ids"}
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
        assert "free some space" in red(ready)["disk"]
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(saved_weights, "expected_tensors", lambda _: {"missing": torch.ones(1)})
        assert "were not saved" in red(ready)["trial save"]
    with pytest.MonkeyPatch.context() as planted:
        planted.setattr(memory_probe, "_steps", _raise_out_of_memory)
        assert "do not fit into the device's memory; lower training.per_device" in red(ready)["memory"]
    collate = ready.trainer.data_collator

    def leaking(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collate(rows)
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}

    ready.trainer.data_collator = leaking
    assert "see each other" in red(ready)["isolation"]


def test_where_layers_are_kept_the_remedy_is_to_compute_them_again(make_recipe: Callable[..., Recipe]) -> None:
    kept, recomputed = (make_recipe(f"training.activation_checkpointing={way}") for way in ("auto", "true"))
    assert less_memory(kept) == f"set training.activation_checkpointing=true, or {less_memory(recomputed)}"


def _raise(message: str) -> Callable[[str], str]:
    def fail(_: str) -> str:
        raise UserError(message)

    return fail


def _raise_out_of_memory(_: Any) -> None:
    raise torch.OutOfMemoryError("planted")


def _with_rows(ready: Readiness, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Readiness:
    prepared = Prepared(**{**vars(ready.prepared), "train": ready.prepared.train.map(change)})
    return Readiness(ready.recipe, ready.trainer, prepared, ready.stop_ids)


def test_the_probe_takes_the_longest_rows_and_leaves_no_trace(make_recipe: Callable[..., Recipe]) -> None:
    ready = make_ready(make_recipe("training.packing=false"))
    lengths = [len(row["input_ids"]) for row in longest_rows(ready.prepared.train, 3)]
    assert lengths == sorted((len(row["input_ids"]) for row in ready.prepared.train), reverse=True)[:3]
    trainer = ready.trainer
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    state, counts = torch.get_rng_state(), trainer._total_train_tokens
    probe_memory(trainer, ready.recipe)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert torch.equal(state, torch.get_rng_state()) and trainer._total_train_tokens == counts
    assert trainer.optimizer is None


def test_decoding_during_training_is_part_of_the_probe(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = ("evaluation.every_steps=2", "evaluation.max_new_tokens=4", "evaluation.batch_size=3")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("planted")

    assert [check.passed for check in preflight(make_recipe(*watched))] == [True] * len(LINES)
    monkeypatch.setattr(decode_held_out, "generate", full)
    memory = list(preflight(make_recipe(*watched)))[-1]
    assert memory.name == "memory" and not memory.passed


def test_a_loss_that_is_not_finite_is_seen_before_training(make_recipe: Callable[..., Recipe]) -> None:
    ready = make_ready(make_recipe(name="mistral/lora"))
    next(iter(ready.trainer.model.parameters())).data.fill_(float("nan"))
    with pytest.raises(UserError, match="is nan before training"):
        probe_memory(ready.trainer, ready.recipe)


def test_training_records_its_checks_and_stops_at_a_red_one(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    checks = read_manifest(train(recipe)).results.preflight
    assert [check.name for check in checks] == [name for name in LINES[2:] if name != "memory"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 0, 1000))
    with pytest.raises(UserError, match="free some space"):
        train(recipe, overwrite=True)
