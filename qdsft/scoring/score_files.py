"""Score the predictions of any system, without a run and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.files import disk_errors, new_directory, write_json, write_text
from qdsft.metrics.break_official.official import official_scores, require_official
from qdsft.metrics.prediction_rows import PredictionRow, json_lines
from qdsft.metrics.summary import summarise
from qdsft.runs.layout import METRICS_FILE, PREDICTIONS_FILE, REPORT
from qdsft.runs.provenance import versions
from qdsft.runs.results import Results, to_json
from qdsft.scoring.read_predictions import read_matched
from qdsft.scoring.report import render_report
from qdsft.scoring.scored_rows import make_scorer

_OTHER = "choose another --output"


def score_files(
    predictions: Path,
    gold: Path,
    *,
    output: Path | None = None,
    break_metrics: bool = False,
    retrieval: str | Path | None = None,
    answers: bool = False,
    execute: bool = False,
) -> Results:
    """Score a file of predictions against one of gold answers; returns the metrics under "tuned".

    Writes metrics.json, predictions.jsonl and report.html to `output`, a folder that is missing or empty. Raises
    UserError as `read_predictions.read_matched` and `make_scorer` do, and if `output` is not empty.
    """
    options: dict[str, Any] = {"retrieval": retrieval, "answers": answers, "execute": execute}
    if break_metrics:
        require_official()
    if output is None:
        return _score(predictions, gold, break_metrics, options).results
    with disk_errors(output, _OTHER):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UserError(f"{output} exists and is not an empty folder; delete it or choose another one")
    with new_directory(output, _OTHER) as folder:
        scored = _score(predictions, gold, break_metrics, options)
        files = {"predictions": str(predictions), "gold": str(gold)}
        write_text(folder / PREDICTIONS_FILE, json_lines(scored.rows))
        facts = {"versions": versions(), "device": "not decoded here", "files": files, **scored.facts}
        write_json(folder / METRICS_FILE, {**to_json(scored.results), **facts})
        # The page names the final folder.
        write_text(folder / REPORT, render_report(output, None, scored.results, scored.rows))
    return scored.results


@dataclass(frozen=True)
class _Scored:
    results: Results
    rows: list[PredictionRow]
    facts: dict[str, Any]


def _score(predictions: Path, gold: Path, break_metrics: bool, options: dict[str, Any]) -> _Scored:
    from tqdm import tqdm

    matched, how = read_matched(predictions, gold)
    say(f"{len(matched)} rows, predictions matched {how}")
    scorer = make_scorer([one.columns for one in matched], **options)
    rows = [scorer(prediction) for prediction in tqdm(matched, desc="scoring", unit="row", disable=None)]
    add_official(rows, lexical=break_metrics)
    return _Scored({"tuned": summarise(rows)}, rows, scorer.facts())


def add_official(rows: Sequence[PredictionRow], *, lexical: bool) -> None:
    """Add BREAK's graph metrics to the scores of every decomposition; with `lexical` also those that need spaCy."""
    decompositions = [row for row in rows if row.sub_questions is not None]
    for row, scores in zip(decompositions, official_scores(decompositions, lexical=lexical), strict=True):
        row.scores.update(scores)
