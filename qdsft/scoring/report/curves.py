"""The sections of a report with curves over a run and distributions over the held-out rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.metrics.catalog import RANKING, Metric, of_kind
from qdsft.metrics.numbers import LARGEST, number_in
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.scoring.report.charts import Counts, Series, column_chart, histogram, line_chart, round_bounds
from qdsft.scoring.report.markup import render
from qdsft.scoring.report.page import Figure

STEP_AXIS = "optimizer step"
LOGGED = (
    Metric(
        "mean_token_accuracy", "token accuracy", "supervised tokens to which the model gives the highest probability"
    ),
    Metric("grad_norm", "gradient norm", "before clipping", None),
)
"""Values that the trainer logs besides metrics and loss."""
MOST_STEPS = 20
"""The last column holds the rows with this many steps or more."""


def read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the entries that have a step, in order, and the number of lines that cannot be parsed.

    A missing file is an empty log. An interrupted run may have left half a line. A resumed run repeats steps: the last
    entry of a step counts. Raise UserError if the file cannot be read.
    """
    entries: list[dict[str, Any]] = []
    damaged = 0
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}; make it readable, or delete it") from error
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and number_in(entry, "step") is not None:
            entries.append(entry)
        else:
            damaged += 1
    return entries, damaged


def curves_section(entries: Sequence[dict[str, Any]], damaged: int = 0) -> Markup:
    """Return loss, learning rate and logged metrics over the steps of a run; empty without a log."""
    train, held_out = _line("training", entries, "loss"), _line("held out", entries, "eval_loss")
    losses = [line for line in (train, held_out) if line.points]
    figures = []
    if losses:
        drawing = line_chart("loss over the steps of training", losses, STEP_AXIS, "nats per token", log=True)
        figures.append(Figure("Loss", drawing, _last(losses)))
    rate = _line("learning rate", entries, "learning_rate")
    if rate.points:
        figures.append(Figure("Learning rate", line_chart("learning rate over the steps", [rate], STEP_AXIS, "")))
    for metric in (*of_kind("score", "fault"), *LOGGED):
        pair = (_line("training", entries, metric.key), _line("held out", entries, f"eval_{metric.key}"))
        lines = [line for line in pair if line.points]
        if lines:
            drawing = line_chart(f"{metric.name} over the steps", lines, STEP_AXIS, "")
            figures.append(Figure(metric.name[0].upper() + metric.name[1:], drawing, _last(lines)))
    infinite = sum(not math.isfinite(y) for line in losses for _, y in line.points)
    warnings = [f"Logged losses that are not finite numbers: {infinite}."] if infinite else []
    warnings += [f"Lines of the log that cannot be read: {damaged}."] if damaged else []
    return _section("training", "Training", figures, warnings)


def distributions_section(rows: Sequence[PredictionRow]) -> Markup:
    """Return histograms over the held-out rows: a score, and the steps and lengths of answers and gold answers."""
    figures = []
    for metric in RANKING:
        values = [value for row in rows if (value := number_in(row.scores, metric.key)) is not None]
        if values and metric.key != "exact_match":
            bounds = [place / 20 for place in range(21)]
            name = metric.name
            drawing = histogram(f"distribution of {name} over the rows", [Counts("rows", values)], bounds, name)
            figures.append(Figure(name, drawing, f"median {sorted(values)[len(values) // 2]:.3f}"))
            break
    steps = [
        (row.sub_questions, row.gold) for row in rows if row.sub_questions is not None and isinstance(row.gold, list)
    ]
    if steps:
        figures.append(Figure("Steps per row", _step_counts(steps)))
    lengths = [(len(row.text), len(gold)) for row in rows if (gold := _gold(row))]
    if lengths:
        predicted, gold_lengths = [a for a, _ in lengths], [b for _, b in lengths]
        bounds = round_bounds(predicted + gold_lengths)
        series = [Counts("predicted", predicted), Counts("gold", gold_lengths)]
        drawing = histogram("characters of the answers, predicted and gold", series, bounds, "characters")
        figures.append(Figure("Length of answers", drawing))
    return _section("distributions", "Distributions", figures)


def _section(anchor: str, heading: str, figures: Sequence[Figure], warnings: Sequence[str] = ()) -> Markup:
    if not figures and not warnings:
        return Markup("")
    return render("figures.html", anchor=anchor, heading=heading, figures=figures, warnings=warnings)


def _line(name: str, entries: Sequence[dict[str, Any]], key: str) -> Series:
    logged = [(entry["step"], entry[key]) for entry in entries if isinstance(entry.get(key), int | float)]
    by_step = {step: float(y) if abs(y) < LARGEST else math.nan for step, y in logged}
    return Series(name, sorted(by_step.items()))


def _last(lines: Sequence[Series]) -> str:
    return ", ".join(f"{line.name} {line.points[-1][1]:.4g}" for line in lines) + " at the end"


def _gold(row: PredictionRow) -> str:
    return row.gold if isinstance(row.gold, str) else Decomposition(tuple(row.gold)).render()


def _step_counts(steps: Sequence[tuple[list[str], list[str]]]) -> Markup:
    top = min(MOST_STEPS, max(len(one) for pair in steps for one in pair))
    counts = [[0.0] * (top + 1) for _ in range(2)]
    for pair in steps:
        for count, one in zip(counts, pair, strict=True):
            count[min(top, len(one))] += 1
    first = 0 if counts[0][0] or counts[1][0] else 1
    labels = [str(number) for number in range(first, top + 1)]
    if any(len(one) > top for pair in steps for one in pair):
        labels[-1] += "+"
    series = [Counts("predicted", counts[0][first:]), Counts("gold", counts[1][first:])]
    return column_chart("steps per row, predicted and gold", labels, series, "steps")
