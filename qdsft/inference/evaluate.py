"""Stage: decode the held-out questions of a run, score them, write metrics, predictions and a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.data.task import Task, make_task
from qdsft.errors import UserError
from qdsft.files import exclusive, write_json, write_text
from qdsft.hashing import json_sha256
from qdsft.inference.decode_rows import Decoded, decode_share, forget, identify, merge
from qdsft.inference.loaded_run import load_run
from qdsft.inference.processes import Processes, launched
from qdsft.metrics.break_official.official import require_official
from qdsft.metrics.prediction_rows import prediction_row
from qdsft.metrics.summary import Row, summarise
from qdsft.runs.card import write_card
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import METRICS_FILE, predictions_file
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.provenance import versions
from qdsft.scoring.report import write_report
from qdsft.scoring.score_files import add_official, json_lines

MODELS = ("tuned", "constrained", "baseline")
"""What one run is evaluated as: itself, itself held to valid answers, and its base model."""
BREAK_METRICS = {"ged", "normalized_exact_match"}


def evaluate(
    run_dir: Path,
    *,
    baseline: bool = False,
    constrained: bool = False,
    samples: int | None = None,
    batch_size: int | None = None,
    break_metrics: bool = False,
    manifest: Manifest | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a finished run on the rows that its split held out.

    Returns, and writes to metrics.json, `{"tuned": {...}, "constrained": {...}, "baseline": {...}}`: the second where
    `constrained` asks for the same model held to the form of a valid answer, the last where `baseline` asks for the
    base model with the same prompts. Each is what `summarise` gives and `loss` (nats per
    supervised token over all rows together), `seconds` of decoding (the sum over processes), `new_tokens` and
    `new_tokens_per_second` (of one process). Answers are kept as they come, and an evaluation that was interrupted
    goes on where it ended. Processes that were launched together share the rows; the first one writes, and the
    others return `{}`.

    Raises UserError as load_run does, and if the run has no held-out rows.
    """
    manifest = manifest or read_finished(run_dir)
    if not manifest.data.eval_rows:
        raise UserError(f"{run_dir}: no rows were held out; train with data.eval_fraction above 0 or with data.eval")
    recipe = manifest.load_recipe()
    settings, task = recipe.evaluation, make_task(recipe)
    for option, wanted in (("--break-metrics", break_metrics), ("--constrained", constrained)):
        if wanted:
            task.require_decompositions(option, run_dir)
    if break_metrics:
        require_official()
    examples = read_eval_rows(run_dir)
    examples = examples[: samples or len(examples)]
    models = [MODELS[0], *(["constrained"] if constrained else []), *(["baseline"] if baseline else [])]
    with ExitStack() as stack:
        processes = stack.enter_context(launched())

        def work() -> tuple[str, list[dict[int, Decoded]]]:
            if processes.is_main:
                stack.enter_context(exclusive(run_dir.resolve(), "stop it"))
            return _decode(run_dir, manifest, examples, models, processes, batch_size or settings.batch_size)

        outcomes = processes.gather(work)
        if not processes.is_main:
            return {}
        device, shares = outcomes[0][0], zip(*(found for _, found in outcomes), strict=True)
        results, rows = {}, {}
        for model, parts in zip(models, shares, strict=True):
            answers = merge(parts, len(examples))
            rows[model] = _rows(task, examples, answers)
            add_official(rows[model], lexical=break_metrics)
            results[model] = {**summarise(rows[model]), **_decoding_metrics(answers)}
        identities = {model: json_sha256(identify(run_dir, manifest, examples, model)) for model in MODELS}
        results |= _earlier(run_dir, identities, results)
        _write(run_dir, manifest, device, identities, results, rows)
    return results


def _write(
    run_dir: Path,
    manifest: Manifest,
    device: str,
    identities: dict[str, str],
    results: dict[str, dict[str, Any]],
    rows: dict[str, list[Row]],
) -> None:
    for model, found in rows.items():
        write_text(run_dir / predictions_file(model), json_lines(found))
    own = {model: identities[model] for model in results}
    write_json(run_dir / METRICS_FILE, {**results, "versions": versions(), "device": device, "identities": own})
    write_report(run_dir, manifest, results, rows["tuned"])
    write_card(run_dir, manifest)
    for model in rows:
        forget(run_dir, model)


def _earlier(
    run_dir: Path, identities: dict[str, str], results: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Results of an earlier evaluation of other models on the same rows and weights; what is lost is said."""
    try:
        before = json.loads((run_dir / METRICS_FILE).read_text(encoding="utf-8"))
        earlier = before.get("identities", {})
        named = [model for model in MODELS if isinstance(before.get(model), dict)]
    except (OSError, ValueError, AttributeError):
        return {}
    kept = {}
    for model in named:
        if model not in results and earlier.get(model) == identities[model]:
            kept[model] = before[model]
        elif model not in results:
            say(f"the results of {model} are of other rows or weights and are discarded; add --{model} for new ones")
        elif lost := before[model].keys() & BREAK_METRICS - results[model].keys():
            say(f"{model}: {', '.join(sorted(lost))} of an earlier evaluation are discarded; add --break-metrics")
    return kept


def _decode(
    run_dir: Path,
    manifest: Manifest,
    examples: Sequence[Example],
    models: Sequence[str],
    processes: Processes,
    batch_size: int,
) -> tuple[str, list[dict[int, Decoded]]]:
    """(name of the device, this process's share of every model)."""
    loaded = load_run(run_dir, manifest)
    machine = loaded.machine
    among = f", shared by {processes.size} processes" if processes.size > 1 else ""
    say(f"evaluating {len(examples)} held-out rows on {machine.device} ({machine.name}){among}")
    shares = []
    try:
        for model in models:
            if model != "tuned":
                say("the same, held to valid answers" if model == "constrained" else "the same with the base model")
            with loaded.untrained() if model == "baseline" else nullcontext(loaded) as chosen:
                shares.append(decode_share(chosen, examples, model, processes, batch_size))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{run_dir}: the device ran out of memory; give a lower --batch-size (now {batch_size}); rows that are "
            "done are kept"
        ) from error
    return machine.name, shares


def _rows(task: Task, examples: Sequence[Example], answers: Sequence[Decoded]) -> list[Row]:
    pairs = zip(examples, answers, strict=True)
    return [
        prediction_row(task.predict(example, answer.text, answer.stopped))
        for example, answer in tqdm(pairs, desc="scoring", total=len(examples), unit="row", disable=None)
    ]


def _decoding_metrics(answers: Sequence[Decoded]) -> dict[str, Any]:
    tokens, seconds = sum(answer.tokens for answer in answers), sum(answer.seconds for answer in answers)
    supervised = sum(answer.supervised for answer in answers)
    return {
        "loss": sum(answer.loss * answer.supervised for answer in answers) / supervised,
        "seconds": round(seconds, 2),
        "new_tokens": tokens,
        "new_tokens_per_second": round(tokens / seconds, 1) if seconds else None,
    }
