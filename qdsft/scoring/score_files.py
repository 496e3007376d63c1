"""Score the predictions of any system, without a run and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.files import disk_errors, new_directory, write_json, write_text
from qdsft.metrics.break_official.official import official_scores, require_official
from qdsft.metrics.prediction_rows import PredictionRow, json_lines, prediction_row
from qdsft.metrics.summary import summarise
from qdsft.runs.layout import METRICS_FILE, PREDICTIONS_FILE, REPORT
from qdsft.runs.provenance import versions
from qdsft.runs.results import Results, to_json
from qdsft.scoring.read_predictions import read_matched
from qdsft.scoring.report import render_report

_OTHER = "choose another --output"


def score_files(predictions: Path, gold: Path, *, output: Path | None = None, break_metrics: bool = False) -> Results:
    """Score a file of predictions against one of gold answers; returns the metrics under "tuned".

    Writes metrics.json, predictions.jsonl and report.html to `output`, a folder that is missing or empty. Raises
    UserError as `read_predictions.read_matched` does, and if `output` is not empty.
    """
    if break_metrics:
        require_official()
    if output is None:
        return _score(predictions, gold, break_metrics)[0]
    with disk_errors(output, _OTHER):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UserError(f"{output} exists and is not an empty folder; delete it or choose another one")
    with new_directory(output, _OTHER) as folder:
        results, rows = _score(predictions, gold, break_metrics)
        files = {"predictions": str(predictions), "gold": str(gold)}
        write_text(folder / PREDICTIONS_FILE, json_lines(rows))
        content = {**to_json(results), "versions": versions(), "device": "not decoded here", "files": files}
        write_json(folder / METRICS_FILE, content)
        write_text(folder / REPORT, render_report(output, None, results, rows))  # which bears the final name
    return results


def _score(predictions: Path, gold: Path, break_metrics: bool) -> tuple[Results, list[PredictionRow]]:
    from tqdm import tqdm

    matched, how = read_matched(predictions, gold)
    say(f"{len(matched)} rows, predictions matched {how}")
    rows = [prediction_row(prediction) for prediction in tqdm(matched, desc="scoring", unit="row", disable=None)]
    add_official(rows, lexical=break_metrics)
    return {"tuned": summarise(rows)}, rows


def add_official(rows: Sequence[PredictionRow], *, lexical: bool) -> None:
    """Add BREAK's graph metrics to the scores of every decomposition; with `lexical` also those that need spaCy."""
    decompositions = [row for row in rows if row.sub_questions is not None]
    for row, scores in zip(decompositions, official_scores(decompositions, lexical=lexical), strict=True):
        row.scores.update(scores)
