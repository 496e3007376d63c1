"""Stage: decode the held-out questions of a run, score them, write metrics, predictions and a report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from qdsft.card import write_card
from qdsft.console import say
from qdsft.encoder import encode_examples
from qdsft.errors import UserError
from qdsft.examples import Example
from qdsft.files import write_json, write_text
from qdsft.generate import Answer, mean_loss
from qdsft.inference import LoadedRun, load_run
from qdsft.metrics import Prediction, aggregate, score, text_score
from qdsft.report import write_report
from qdsft.run import read_eval_rows, read_finished, versions


def evaluate(
    run_dir: Path, *, baseline: bool = False, samples: int | None = None, batch_size: int | None = None
) -> dict[str, dict[str, Any]]:
    """Score a finished run on the rows that its split held out.

    Returns, and writes to metrics.json, `{"tuned": {...}, "baseline": {...}}`, the latter only where
    `baseline` asks for the base model with the same prompts. Raises UserError as load_run does, and if
    the run has no held-out rows.
    """
    if not read_finished(run_dir).data["eval_rows"]:
        raise UserError(f"{run_dir}: no rows were held out; train with data.eval_fraction above 0 or with data.eval")
    examples = read_eval_rows(run_dir)
    loaded = load_run(run_dir)
    examples = examples[: samples or len(examples)]
    batch_size = batch_size or loaded.recipe.evaluation.batch_size
    say(f"evaluating {len(examples)} held-out rows on {loaded.machine.device} ({loaded.machine.name})")
    results, rows = {}, {}
    results["tuned"], rows["tuned"] = _run_model(loaded, examples, batch_size)
    if baseline:
        say("the same with the base model")
        with loaded.untrained() as base:
            results["baseline"], rows["baseline"] = _run_model(base, examples, batch_size)
    for name, predictions in rows.items():
        file = "predictions.jsonl" if name == "tuned" else f"predictions_{name}.jsonl"
        write_text(run_dir / file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions))
    write_json(run_dir / "metrics.json", {**results, "versions": versions(), "device": loaded.machine.name})
    write_report(run_dir, loaded.manifest, results, rows["tuned"])
    write_card(run_dir, loaded.manifest)
    return results


def _run_model(
    loaded: LoadedRun, examples: Sequence[Example], batch_size: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(metrics, one dictionary a row) of one model."""
    encoded = encode_examples(
        loaded.tokenizer, examples, loaded.manifest.stop_token_ids, max_length=None, overlength="error"
    )
    start = time.monotonic()
    by_index = dict(loaded.stream([example.messages for example in examples], batch_size=batch_size, progress=True))
    answers = [by_index[i] for i in range(len(examples))]
    seconds = time.monotonic() - start
    loss = mean_loss(loaded.model, encoded.rows)
    if loaded.writer.is_decomposition:
        rows = [_decomposition_row(example, answer) for example, answer in zip(examples, answers, strict=True)]
        metrics: dict[str, Any] = dict(aggregate(_prediction(e, a) for e, a in zip(examples, answers, strict=True)))
    else:
        rows = [_text_row(example, answer) for example, answer in zip(examples, answers, strict=True)]
        metrics = {name: fmean(row["scores"][name] for row in rows) for name in rows[0]["scores"]}
        metrics["samples"] = len(rows)
    tokens = sum(answer.tokens for answer in answers)
    metrics |= {
        "loss": loss,
        "seconds": round(seconds, 2),
        "new_tokens": tokens,
        "new_tokens_per_second": round(tokens / seconds, 1),
    }
    return metrics, rows


def _prediction(example: Example, answer: Answer) -> Prediction:
    row = example.record.row
    return Prediction(row["question"], tuple(row["sub_questions"]), answer.text, answer.stopped)


def _decomposition_row(example: Example, answer: Answer) -> dict[str, Any]:
    prediction = _prediction(example, answer)
    decomposition = prediction.decomposition
    return {
        "question": prediction.question,
        "gold": list(prediction.gold),
        "sub_questions": list(decomposition.steps),
        "problems": list(decomposition.problems()),
        "text": answer.text,
        "scores": score(prediction),
    }


def _text_row(example: Example, answer: Answer) -> dict[str, Any]:
    return {
        "question": example.question,
        "gold": example.completion,
        "text": answer.text,
        "scores": text_score(example.completion, answer.text, answer.stopped),
    }
