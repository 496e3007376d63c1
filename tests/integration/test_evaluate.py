"""Evaluating a run: gone on with after a kill, shared by processes, and always the same result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.ports import free_port

from qdsft.cli.main import main
from qdsft.data.synth import generate_mixed
from qdsft.errors import UserError
from qdsft.files import exclusive
from qdsft.inference.evaluate import evaluate
from qdsft.recipe import load_recipe
from qdsft.runs.layout import decoded_log_path
from qdsft.runs.manifest import read_manifest
from qdsft.runs.results import MODELS, to_json
from qdsft.training.train import train

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
HELD_OUT = 13


@pytest.fixture(scope="module")
def trained(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step: its answers are nonsense, and as good as any other for what is tested here."""
    folder = tmp_path_factory.mktemp("trained")
    made = list(generate_mixed(["en", "ko"], HELD_OUT + 4, 5))
    rows = [json.dumps({**row, "evidence": [row["question"]]}, ensure_ascii=False) + "\n" for row in made]
    passages = [{"id": str(place), "text": row["question"]} for place, row in enumerate(made)]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in passages), encoding="utf-8"
    )
    (folder / "eval.jsonl").write_text("".join(rows[:HELD_OUT]), encoding="utf-8")
    (folder / "train.jsonl").write_text("".join(rows[HELD_OUT:]), encoding="utf-8")
    values = {
        "model.name_or_path": tiny_model("llama"),
        "data.train": folder / "train.jsonl",
        "data.eval": folder / "eval.jsonl",
        "training.output_dir": folder / "run",
        "training.max_steps": 1,
        "training.report_to": "none",
        "evaluation.max_new_tokens": 96,
        "evaluation.batch_size": 3,
    }
    return train(load_recipe(ROOT / "recipes/tiny/full.yaml", [f"{key}={value}" for key, value in values.items()]))


@pytest.fixture
def run_dir(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def predictions(run_dir: Path, name: str = "predictions.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / name).read_text(encoding="utf-8").splitlines()]


def metrics(run_dir: Path, model: str = "tuned") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))[model]
    return {name: value for name, value in found.items() if not name.startswith(("seconds", "new_tokens_per"))}


def kept(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.glob(".predictions*"))


def start(*arguments: str | Path, python: str = sys.executable, **environment: str) -> subprocess.Popen[str]:
    command = [python, "-m", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_answers(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, f"{path} has no {count} answers"
        time.sleep(0.01)


def test_files_of_an_evaluation(run_dir: Path) -> None:
    results = evaluate(run_dir, baseline=True)
    content = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    assert content.keys() == {"tuned", "baseline", "versions", "device", "identities"}
    assert {name: content[name] for name in MODELS if name in content} == to_json(results)
    tuned = content["tuned"]
    assert (tuned["samples"], tuned["stopped"], tuned["new_tokens"]) == (HELD_OUT, 0.0, HELD_OUT * 96)
    assert tuned["seconds"] > 0 and tuned["loss"] > 1 and tuned["intervals"]["stopped"] == [0.0, 0.0]
    assert {name: group["samples"] for name, group in tuned["groups"]["language"].items()} == {"en": 7, "ko": 6}
    golden = [json.loads(line)["row"] for line in (run_dir / "eval.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("predictions.jsonl", "predictions_baseline.jsonl"):
        assert [row["question"] for row in predictions(run_dir, name)] == [row["question"] for row in golden]
        assert all(row["stopped"] is False for row in predictions(run_dir, name))
    assert kept(run_dir) == []


def test_answers_are_searched_with_and_executed(
    trained: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bm25s")
    corpus = trained.parent / "corpus.jsonl"
    assert main(["evaluate", str(run_dir), "--baseline", "--retrieval", str(corpus), "--execute"]) == 0
    assert "question and predicted steps" in capsys.readouterr().out
    content = json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
    assert content["retrieval"]["rows"] == HELD_OUT and content["retrieval"]["corpus"] == "corpus.jsonl"
    for model in ("tuned", "baseline"):
        found = content[model]
        assert (found["retrieval_recall_question"], found["execution_accuracy"]) == (1.0, 0.0)
        assert found["differences"]["retrieval_recall_steps"]["mean"] < 0
    assert "## Retrieval" in (run_dir / "README.md").read_text(encoding="utf-8")
    assert '<section id="retrieval">' in (run_dir / "report.html").read_text(encoding="utf-8")
    again = evaluate(run_dir)
    said = capsys.readouterr().err
    assert "the retrieval metrics of baseline are of another corpus and are discarded" in said
    assert "add --execute and --retrieval" in said
    assert again["baseline"].get("retrieval_recall") is None and not again["baseline"].differences
    corpus.write_text('{"id": "x", "text": "y"}\n', encoding="utf-8")
    assert main(["evaluate", str(run_dir), "--retrieval", str(corpus)]) == 1
    assert "is no id and no text in" in capsys.readouterr().err and kept(run_dir) == []


def test_evaluating_again_keeps_what_still_holds_and_says_what_goes(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluate(run_dir, baseline=True, samples=3)
    again = evaluate(run_dir, samples=3)
    assert again["baseline"] == first["baseline"]
    assert json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))["baseline"] == first["baseline"].to_json()
    capsys.readouterr()
    assert "baseline" not in evaluate(run_dir, samples=2)
    assert "the results of baseline are of other rows or weights and are discarded" in capsys.readouterr().err


def test_the_generation_config_beside_the_weights_changes_no_answer(run_dir: Path) -> None:
    evaluate(run_dir, samples=4)
    clean = predictions(run_dir)
    path = run_dir / "model" / "generation_config.json"
    settings: dict[str, Any] = {
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.8,
        "min_new_tokens": 90,
        "num_beams": 2,
    }
    settings |= {"suppress_tokens": list(range(300, 1500)), "guidance_scale": 3.0, "cache_implementation": "static"}
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    evaluate(run_dir, samples=4)
    assert predictions(run_dir) == clean


def test_damaged_weights_are_one_line(run_dir: Path) -> None:
    weights = next((run_dir / "model").glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(UserError, match="the model saved with the run cannot be loaded; put its files back"):
        evaluate(run_dir)
    weights.unlink()
    with pytest.raises(UserError, match="the model saved with the run cannot be loaded; put its files back"):
        evaluate(run_dir)


def test_free_text(tmp_path: Path, trained: Path) -> None:
    recipe = read_manifest(trained).load_recipe()
    overrides = [f"{key}={value}" for key, value, origin in recipe.rows() if origin == "command line"]
    overrides += ["prompt.user={{ question }}", "prompt.completion={{ operations[0] }}", "evaluation.max_new_tokens=4"]
    run_dir = train(load_recipe(recipe.path, [*overrides, f"training.output_dir={tmp_path / 'text'}"]))
    found = evaluate(run_dir, samples=5)["tuned"].to_json()
    assert found.keys() >= {"exact_match", "chrf", "stopped", "loss"} and found["samples"] == 5
    assert found["groups"]["steps"] == {} and "step_f1" not in found
    row = predictions(run_dir)[0]
    assert row.keys() == {"question", "gold", "text", "stopped", "language", "source", "scores"}
    with pytest.raises(UserError, match=r"its answers are free text, and --break-metrics is for decompositions"):
        evaluate(run_dir, break_metrics=True)


def test_an_interrupt_prints_the_command_to_resume(run_dir: Path, quick_python: str) -> None:
    process = start("qdsft", "evaluate", run_dir, "--baseline", "--batch-size", "1", python=quick_python)
    wait_for_answers(decoded_log_path(run_dir, "tuned", 0), 1)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert error.splitlines()[-1] == "interrupted; run the same command again to resume"
    assert kept(run_dir)


def test_two_processes_give_what_one_gives(run_dir: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(run_dir, tmp_path / "alone"))
    evaluate(alone, baseline=True)
    launch = ("torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()))
    process = start(*launch, "-m", "qdsft", "evaluate", run_dir, "--baseline")
    output, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    for name in ("predictions.jsonl", "predictions_baseline.jsonl"):
        assert (run_dir / name).read_bytes() == (alone / name).read_bytes()
    for model in ("tuned", "baseline"):
        theirs, ours = metrics(run_dir, model), metrics(alone, model)
        assert theirs.pop("loss") == pytest.approx(ours.pop("loss"), rel=1e-5)
        assert theirs == ours
    assert output.count("exact match") == 1 and error.count("held-out rows on") == 1
    assert "shared by 2 processes" in error and kept(run_dir) == []


def test_rows_that_were_decoded_before_a_kill_are_not_decoded_again(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(shutil.copytree(run_dir, tmp_path / "whole"))
    evaluate(whole)
    process = start("qdsft", "evaluate", run_dir, "--batch-size", "1")
    path = decoded_log_path(run_dir, "tuned", 0)
    wait_for_answers(path, 4)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (run_dir / "predictions.jsonl").exists()
    content = path.read_text(encoding="utf-8")
    lines = content[: content.rindex("\n")].split("\n")
    done = {json.loads(line)["index"] for line in lines[1:]}
    assert 4 <= len(done) < HELD_OUT
    # Marked, so that it shows in the result whether they were used; the torn line must not.
    marked = [lines[0], *(json.dumps({**json.loads(line), "text": "kept"}) for line in lines[1:]), lines[1][:20]]
    path.write_text("\n".join(marked), encoding="utf-8")
    capsys.readouterr()
    evaluate(run_dir, batch_size=4)
    assert f"{len(done)} of {HELD_OUT} rows were decoded before an interruption" in capsys.readouterr().err
    for index, (ours, theirs) in enumerate(zip(predictions(run_dir), predictions(whole), strict=True)):
        assert ours["text"] == ("kept" if index in done else theirs["text"])
    assert kept(run_dir) == []


@pytest.mark.parametrize("change", ["samples", "weights", "another rank"])
def test_answers_of_something_else_are_not_used(
    change: str, run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("qdsft.inference.evaluate.summarise", dying)
        evaluate(run_dir)
    path = decoded_log_path(run_dir, "tuned", 0)
    marked = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(marked) == HELD_OUT + 1
    lines = [json.dumps(line if "index" not in line else {**line, "text": "kept"}) + "\n" for line in marked]
    path.write_text("".join(lines), encoding="utf-8")
    if change == "weights":
        os.utime(run_dir / "model/model.safetensors", ns=(1, 1))
    if change == "another rank":  # of an earlier launch of more processes: those are used
        path.rename(decoded_log_path(run_dir, "tuned", 5))
    evaluate(run_dir, samples=HELD_OUT - 1 if change == "samples" else None)
    used = change == "another rank"
    assert ("it is discarded" in capsys.readouterr().err) is not used
    assert all((row["text"] == "kept") is used for row in predictions(run_dir))
    assert kept(run_dir) == []


def test_a_process_that_dies_is_noticed(run_dir: Path, quick_python: str) -> None:
    # Started by hand: no launcher is there to stop the other one.
    places = {"python": quick_python, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        start("qdsft", "evaluate", run_dir, "--batch-size", "1", RANK=rank, LOCAL_RANK=rank, **places) for rank in "01"
    )
    wait_for_answers(decoded_log_path(run_dir, "tuned", 1), 2)
    second.send_signal(signal.SIGKILL)
    second.communicate(timeout=60)
    output, error = first.communicate(timeout=240)
    assert (first.returncode, output) == (1, "")
    assert error.splitlines()[-1] == (
        "error: another process of this launch ended early, see its message; start again: decoded rows are kept"
    )
    assert "Traceback" not in error and not (run_dir / "predictions.jsonl").exists()
    assert len(kept(run_dir)) == 2


def test_an_error_of_another_process_is_printed_once(run_dir: Path, quick_python: str) -> None:
    # The second process is given another run directory, whose weights are gone.
    other = Path(shutil.copytree(run_dir, run_dir.with_name("other")))
    (other / "model/chat_template.jinja").write_text("x", encoding="utf-8")
    places = {"python": quick_python, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        start("qdsft", "evaluate", path, RANK=rank, LOCAL_RANK=rank, **places)
        for rank, path in (("0", run_dir), ("1", other))
    )
    _, error = first.communicate(timeout=240)
    assert second.communicate(timeout=60) == ("", "")
    assert (first.returncode, second.returncode) == (1, 1)
    assert error.splitlines()[-1].startswith(f"error: process 1 of 2: {other}/model/chat_template.jinja: not the templ")


def test_another_evaluation_of_the_same_run_waits_its_turn(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(run_dir):
        assert main(["evaluate", str(run_dir)]) == 1
    message = f"error: {run_dir}: another process is writing there; wait for it, or stop it\n"
    assert capsys.readouterr().err == message


def test_break_metrics_are_refused_before_anything_is_decoded(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise UserError("spaCy cannot be imported")

    monkeypatch.setattr("qdsft.metrics.break_official.official.load_english", absent)
    assert main(["evaluate", str(run_dir), "--break-metrics"]) == 1
    assert capsys.readouterr().err == "error: spaCy cannot be imported\n"
    assert kept(run_dir) == []
