"""Decode the held-out questions of a run, score the answers, and write metrics, predictions and a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from qdsft.console import say
from qdsft.data.examples import Example
from qdsft.data.task import Task, make_task
from qdsft.errors import UserError
from qdsft.files import exclusive, write_json, write_text
from qdsft.hashing import json_sha256
from qdsft.inference.decode_rows import Decoded, decode_share, forget, identify, join_shares
from qdsft.inference.loaded_run import LoadedRun, load_run
from qdsft.inference.processes import Processes, launched
from qdsft.metrics.break_official.official import require_official
from qdsft.metrics.catalog import METRICS, of_kind
from qdsft.metrics.model_metrics import Decoding, ModelMetrics
from qdsft.metrics.prediction_rows import PredictionRow, json_lines
from qdsft.metrics.summary import summarise
from qdsft.model.device_errors import device_errors
from qdsft.runs.card import write_card
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.layout import METRICS_FILE, predictions_file
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.provenance import versions
from qdsft.runs.results import MODELS, Results, read_metrics_file, to_json
from qdsft.scoring.report import write_report
from qdsft.scoring.score_files import add_official
from qdsft.scoring.scored_rows import RowScorer, make_scorer


def evaluate(
    run_dir: str | Path,
    *,
    baseline: bool = False,
    constrained: bool = False,
    samples: int | None = None,
    batch_size: int | None = None,
    break_metrics: bool = False,
    retrieval: str | Path | None = None,
    answers: bool = False,
    execute: bool = False,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> Results:
    """Score a finished run on the rows that its split held out.

    Returns the metrics of the trained model under "tuned", with `constrained` also those of the same model held to
    valid answers, and with `baseline` those of the base model with the same prompts; writes them to metrics.json.
    Every answer is saved when its batch ends, and an interrupted evaluation resumes there. Processes that were
    launched together share the rows; the first one writes, and the others return `{}`.

    Raises UserError as load_run does, if the run has no held-out rows, and as make_scorer does.
    """
    run_dir = Path(run_dir)
    manifest = manifest or read_finished(run_dir)
    recipe = manifest.load_recipe()
    settings, task = recipe.evaluation, make_task(recipe)
    more: dict[str, Any] = {"retrieval": retrieval, "answers": answers, "execute": execute}
    _require_decompositions(task, run_dir, {"break_metrics": break_metrics, "constrained": constrained, **more})
    if break_metrics:
        require_official()
    examples = _held_out(run_dir, manifest, samples)
    models = [MODELS[0], *(["constrained"] if constrained else []), *(["baseline"] if baseline else [])]
    scorer = RowScorer()
    with ExitStack() as stack:
        processes = stack.enter_context(launched())

        def work() -> tuple[str, list[dict[int, Decoded]]]:
            nonlocal scorer
            if processes.is_main:
                stack.enter_context(exclusive(run_dir.resolve(), "stop it"))
                scorer = make_scorer([one.record.row for one in examples], **more)
            load = partial(load_run, run_dir, manifest, trust_remote_code=trust_remote_code)
            return _decode(load, examples, models, processes, batch_size or settings.batch_size)

        outcomes = processes.gather(work)
        if not processes.is_main:
            return {}
        device, shares = outcomes[0][0], zip(*(found for _, found in outcomes), strict=True)
        decoded = {model: join_shares(parts, len(examples)) for model, parts in zip(models, shares, strict=True)}
        rows = {model: _rows(task, examples, answered, scorer) for model, answered in decoded.items()}
        for found in rows.values():
            add_official(found, lexical=break_metrics)
        results = {model: replace(summarise(rows[model]), decoding=_decoding(decoded[model])) for model in models}
        identities = {model: json_sha256(identify(run_dir, manifest, examples, model)) for model in MODELS}
        results |= _earlier(run_dir, identities, results, scorer.facts().get("retrieval"))
        own = {model: identities[model] for model in results}
        facts = {"versions": versions(), "device": device, "identities": own, **scorer.facts()}
        _write(run_dir, manifest, facts, results, rows)
    return results


def _require_decompositions(task: Task, run_dir: Path, options: dict[str, Any]) -> None:
    """Raise UserError if an option that is set scores decompositions only, and the run answers with free text."""
    for name, value in options.items():
        if value:
            task.require_decompositions(f"--{name.replace('_', '-')}", run_dir)


def _held_out(run_dir: Path, manifest: Manifest, samples: int | None) -> list[Example]:
    if not manifest.data.eval_rows:
        raise UserError(f"{run_dir}: no rows were held out; train with data.eval_fraction above 0 or with data.eval")
    return read_eval_rows(run_dir, samples)


def _write(
    run_dir: Path,
    manifest: Manifest,
    facts: dict[str, Any],
    results: Results,
    rows: dict[str, list[PredictionRow]],
) -> None:
    for model, found in rows.items():
        write_text(run_dir / predictions_file(model), json_lines(found))
    write_json(run_dir / METRICS_FILE, {**to_json(results), **facts})
    write_report(run_dir, manifest, results, rows["tuned"])
    write_card(run_dir, manifest)
    for model in rows:
        forget(run_dir, model)


def _earlier(
    run_dir: Path, identities: dict[str, str], results: Results, retrieval: dict[str, Any] | None = None
) -> Results:
    """Return the results of an earlier evaluation of other models on the same rows and weights; print what is lost."""
    try:
        before = read_metrics_file(run_dir)
    except UserError as error:
        say(f"{error}; it is replaced now")
        return {}
    optional = {metric.key: metric.option for metric in METRICS if metric.option}
    kept = {}
    for model, metrics in before.results.items():
        if model not in results and before.identities.get(model) == identities[model]:
            kept[model] = metrics if before.retrieval == retrieval else _without_retrieval(model, metrics)
        elif model not in results:
            say(f"the results of {model} are of other rows or weights and are discarded; add --{model} for new ones")
        elif lost := sorted(metrics.means.keys() & optional.keys() - results[model].means.keys()):
            options = " and ".join(sorted({optional[key] for key in lost}))
            say(f"{model}: {', '.join(lost)} of an earlier evaluation are discarded; add {options}")
    return kept


def _without_retrieval(model: str, metrics: ModelMetrics) -> ModelMetrics:
    """Return metrics without those of a retrieval, because the new ones are of another corpus or of none."""
    keys = {metric.key for metric in of_kind("retrieval")}
    if not keys & metrics.means.keys():
        return metrics
    say(f"the retrieval metrics of {model} are of another corpus and are discarded; add --{model} for new ones")
    return replace(
        metrics,
        means={key: value for key, value in metrics.means.items() if key not in keys},
        intervals={key: value for key, value in metrics.intervals.items() if key not in keys},
        differences={key: value for key, value in metrics.differences.items() if key not in keys},
    )


def _decode(
    load: Callable[[], LoadedRun],
    examples: Sequence[Example],
    models: Sequence[str],
    processes: Processes,
    batch_size: int,
) -> tuple[str, list[dict[int, Decoded]]]:
    """Return the name of the device, and the answers of this process for every model."""
    loaded = load()
    machine = loaded.machine
    among = f", shared by {processes.size} processes" if processes.size > 1 else ""
    say(f"evaluating {len(examples)} held-out rows on {machine.device_type} ({machine.name}){among}")
    shares = []
    remedy = f"give a lower --batch-size (now {batch_size}); rows that are done are kept"
    with device_errors(f"decoding the held-out rows of {loaded.run_dir}", remedy):
        for model in models:
            if model != "tuned":
                say(f"decoding again, {'constrained' if model == 'constrained' else 'with the base model'}")
            with loaded.untrained() if model == "baseline" else nullcontext(loaded) as chosen:
                shares.append(decode_share(chosen, examples, model, processes, batch_size))
    return machine.name, shares


def _rows(
    task: Task, examples: Sequence[Example], answers: Sequence[Decoded], scorer: RowScorer
) -> list[PredictionRow]:
    pairs = zip(examples, answers, strict=True)
    return [
        scorer(task.predict(example, answer.text, answer.stopped))
        for example, answer in tqdm(pairs, desc="scoring", total=len(examples), unit="row", disable=None)
    ]


def _decoding(answers: Sequence[Decoded]) -> Decoding:
    tokens, seconds = sum(answer.tokens for answer in answers), sum(answer.seconds for answer in answers)
    supervised = sum(answer.supervised for answer in answers)
    return Decoding(
        loss=sum(answer.loss * answer.supervised for answer in answers) / supervised,
        seconds=round(seconds, 2),
        new_tokens=tokens,
        new_tokens_per_second=round(tokens / seconds, 1) if seconds else None,
    )
