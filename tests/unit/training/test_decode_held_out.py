"""Held-out rows decoded during training: seen in the log, followed by the best model, never felt by the weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from qdsft.errors import Interrupted, UserError
from qdsft.inference import generate
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.training import decode_held_out
from qdsft.training.train import train

pytestmark = pytest.mark.slow

STEPS = 6
WATCHED = ("evaluation.every_steps=2", "evaluation.samples=3", "evaluation.max_new_tokens=6", "evaluation.batch_size=2")


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[..., Recipe]:
    data = tmp_path / "rows.jsonl"
    row = '{"question": "How old is number %d?", "sub_questions": ["Who is number %d?", "How old is #1?"]}\n'
    data.write_text("".join(row % (i, i) for i in range(40)), encoding="utf-8")

    def make(run: str, *overrides: str) -> Recipe:
        fixed = [
            f"model.name_or_path={tiny_model('llama')}",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0.2",
            "data.max_samples=16",
            f"training.output_dir={tmp_path / run}",
            f"training.max_steps={STEPS}",
            "training.report_to=none",
            "training.logging_steps=1",
            "training.per_device_train_batch_size=4",
            "training.global_batch_size=4",
        ]
        return load_recipe(ROOT / "recipes/tiny/full.yaml", [*fixed, *overrides])

    return make


def logged(run_dir: Path, key: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(run_dir / "model" / "model.safetensors")
    return loaded


def test_metrics_are_logged_from_the_start_and_the_weights_are_those_of_a_run_without(
    make_recipe: Callable[..., Recipe],
) -> None:
    plain = train(make_recipe("plain"))
    watched = train(make_recipe("watched", *WATCHED))
    for metric in ("eval_sari", "eval_valid", "eval_stopped", "eval_loss"):
        assert set(logged(watched, metric)) == {0, 2, 4, 6}, metric
    assert not logged(plain, "eval_sari")
    first, second = weights(plain), weights(watched)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_best_model_follows_a_decoded_metric(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.9, 0.5, 0.3])  # before training and after 2, 4 and 6 steps
    current = [0.0]

    def begin(self: Any, trainer: Any) -> dict[str, float]:
        current[0] = next(values)
        return call(self, trainer)

    # Real decoding of a model that knows nothing yet would score the same each time: the scores are set from here.
    call = decode_held_out.TrainingEvaluation.__call__
    monkeypatch.setattr(decode_held_out.TrainingEvaluation, "__call__", begin)
    monkeypatch.setattr(decode_held_out, "score", lambda prediction: {"sari": current[0]})
    best = ("training.load_best_model_at_end=true", "training.metric_for_best_model=sari")
    saves = ("training.save_strategy=steps", "training.save_steps=2", "training.save_total_limit=5")
    run_dir = train(make_recipe("best", *WATCHED, *best, *saves))
    kept = weights(run_dir)
    at_two = load_file(run_dir / "checkpoint-2" / "model.safetensors")
    at_six = load_file(run_dir / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(kept[name], at_two[name]) for name in at_two)
    assert not all(torch.equal(kept[name], at_six[name]) for name in at_six)


def test_training_stops_when_a_decoded_metric_gets_no_better_and_a_resume_ends_at_the_same_step(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.9, 0.5, 0.3, 0.2])
    current = [0.0]
    call = decode_held_out.TrainingEvaluation.__call__

    def begin(self: Any, trainer: Any) -> dict[str, float]:
        current[0] = next(values)
        return call(self, trainer)

    monkeypatch.setattr(decode_held_out.TrainingEvaluation, "__call__", begin)
    monkeypatch.setattr(decode_held_out, "score", lambda prediction: {"sari": current[0]})
    stopping = ("training.early_stopping_patience=1", "training.metric_for_best_model=sari")
    saves = ("training.save_strategy=steps", "training.save_steps=2", "training.save_total_limit=2")
    recipe = make_recipe("early", *WATCHED, *stopping, *saves)
    run_dir = train(recipe)
    at_two = load_file(run_dir / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(weights(run_dir)[name], at_two[name]) for name in at_two)
    assert [path.name for path in complete_checkpoints(run_dir)[0]] == ["checkpoint-2", "checkpoint-4"]
    # Killed after the last checkpoint: the resume stops where the run did.
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    (run_dir / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    steps = logged(run_dir, "loss")
    train(recipe, resume=True)
    assert set(logged(run_dir, "loss")) == set(steps) == {1, 2, 3, 4}
    assert all(torch.equal(weights(run_dir)[name], at_two[name]) for name in at_two)


def test_a_resume_of_a_mix_trains_on_the_same_rows(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    row = '{"question": "Where is town %d?", "sub_questions": ["What is town %d?", "Where is #1?"]}\n'
    (tmp_path / "towns.jsonl").write_text("".join(row % (i, i) for i in range(6)), encoding="utf-8")
    mix = f"data.train=[{{path: {tmp_path}/rows.jsonl, weight: 2}}, {{path: {tmp_path}/towns.jsonl}}]"
    limits = ("training.save_total_limit=5", "data.max_samples=null")
    saves = ("training.save_strategy=steps", "training.save_steps=2", *limits)
    whole = train(make_recipe("whole", mix, *saves))
    manifest = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert manifest["data"]["train_sources"].keys() == {"rows.jsonl", "towns.jsonl"}
    recipe = make_recipe("killed", mix, *saves)
    killed = train(recipe)
    for step in (4, 6):
        shutil.rmtree(killed / f"checkpoint-{step}")
    shutil.rmtree(killed / "model")
    manifest = json.loads((killed / "run.json").read_text(encoding="utf-8"))
    (killed / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    resumed = train(recipe, resume=True)
    assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(whole).items())
    other = mix.replace("weight: 2", "weight: 3")
    (killed / "run.json").write_text(json.dumps({**manifest, "state": "running"}), encoding="utf-8")
    with pytest.raises(UserError, match="has changed since the run began"):
        train(make_recipe("killed", other, *saves), resume=True)


def test_training_follows_what_a_search_finds(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    pytest.importorskip("bm25s")
    passages = [{"id": str(i), "text": f"Who is number {i}? Number {i} is {i} years old."} for i in range(40)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(one) + "\n" for one in passages), encoding="utf-8")
    row = {"question": "How old is %d?", "sub_questions": ["Who is number %d?", "How old is #1?"], "evidence": ["%d"]}
    rows = "".join(json.dumps(row).replace("%d", str(i)) + "\n" for i in range(40))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    searched = (f"evaluation.retrieval={tmp_path / 'c.jsonl'}", "training.metric_for_best_model=retrieval_all_found")
    saves = ("training.save_strategy=steps", "training.save_steps=2", "training.load_best_model_at_end=true")
    run_dir = train(make_recipe("searched", *WATCHED, *searched, *saves))
    assert set(logged(run_dir, "eval_retrieval_all_found")) == {0, 2, 4, 6}
    assert not logged(run_dir, "eval_retrieval_recall_question")
    (tmp_path / "c.jsonl").write_text('{"id": "x", "text": "y"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"evaluation\.retrieval: the row .* is no id and no text in"):
        train(make_recipe("refused", *WATCHED, *searched, *saves))


def test_a_decode_that_fails_does_not_end_the_run(
    make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[int] = []
    real = generate.Batch.run

    def too_big(self: generate.Batch, *arguments: Any) -> Any:
        sizes.append(len(self._ids))
        if len(sizes) > 9:
            raise RuntimeError("planted")
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("too many rows")
        return real(self, *arguments)

    monkeypatch.setattr(generate.Batch, "run", too_big)
    best = ("training.load_best_model_at_end=true", "training.metric_for_best_model=eval_sari")
    saves = ("training.save_strategy=steps", "training.save_steps=2")
    watched = [value.replace("batch_size=2", "batch_size=4").replace("samples=3", "samples=4") for value in WATCHED]
    run_dir = train(make_recipe("failing", *watched, *best, *saves))
    said = capsys.readouterr().err
    assert sizes[:3] == [4, 2, 1]
    assert "continuing with 2 rows at a time" in said and "training continues without these metrics: planted" in said
    assert set(logged(run_dir, "loss")) >= {STEPS}
    assert set(logged(run_dir, "eval_sari")) < {0, 2, 4, 6} and (run_dir / "model").is_dir()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.eval_steps=3", "contradicts evaluation.every_steps 2"),
        ("training.eval_strategy=epoch", "contradicts evaluation.every_steps 2"),
        ("data.eval_fraction=0", "evaluation.every_steps needs held-out rows and there are none"),
    ],
)
def test_settings_that_contradict_are_refused(make_recipe: Callable[..., Recipe], override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(make_recipe("refused", *WATCHED, override))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("batch", "saved"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_a_signal_ends_a_decoding_at_the_next_token_and_the_checkpoint_is_saved(
    batch: int,
    saved: int,
    number: int,
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Three rows are two batches, decoded before training and after every second step. Stop tokens that no row has
    # make each batch take 100 tokens.
    watched = [*WATCHED[:2], "evaluation.max_new_tokens=100", "evaluation.batch_size=2", "training.save_strategy=no"]
    recipe = make_recipe("stopped", *watched)
    begun, later = [0], [0]
    run_batch, forward = generate.Batch.run, LlamaForCausalLM.forward

    def begin(self: generate.Batch, *arguments: Any) -> Any:
        begun[0] += 1
        return run_batch(self, *arguments)

    def kill(self: Any, *arguments: Any, **options: Any) -> Any:
        if begun[0] == batch:
            later[0] += 1
        if later[0] == 3:
            os.kill(os.getpid(), number)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(generate.Batch, "run", begin)
    monkeypatch.setattr(LlamaForCausalLM, "forward", kill)
    with pytest.raises(Interrupted, match=f"saved at step {saved}; resume with") as ended:
        train(recipe)
    assert ended.value.status == 128 + number and "stopped decoding held-out rows" in capsys.readouterr().err
    assert begun[0] == batch and [path.name for path in complete_checkpoints(recipe.run_dir)[0]] == [
        f"checkpoint-{saved}"
    ]
    monkeypatch.undo()
    resumed, whole = train(recipe, resume=True), train(make_recipe("whole", *watched))
    assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(whole).items())
