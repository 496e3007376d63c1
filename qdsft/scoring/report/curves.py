"""The parts of a report that are curves over a run and distributions over its held-out rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.metrics.meanings import FAULTS, LARGEST, METRICS, RANKING, Meaning, number_in
from qdsft.scoring.report.charts import Counts, Series, column_chart, histogram, line_chart, round_bounds
from qdsft.scoring.report.page import figure, section

STEP_AXIS = "optimizer step"
LOGGED = {
    "mean_token_accuracy": Meaning("token accuracy", "supervised tokens that are the likeliest one"),
    "grad_norm": Meaning("gradient norm", "before clipping", None),
}
"""What the trainer logs beside metrics and loss."""
MOST_STEPS = 20
"""The column of rows with this many steps holds those with more, too."""


def read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(entries with a step, in order, count of lines that cannot be read); nothing where there is no such file.

    An interrupted run may have left half a line, and a resumed one goes over steps again: their last entry counts.
    Raises UserError if there is a file that cannot be read.
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


def curves_section(entries: Sequence[dict[str, Any]], damaged: int = 0) -> str:
    """Loss, learning rate and logged metrics over the steps of a run; empty without a log."""
    train, held_out = _line("training", entries, "loss"), _line("held out", entries, "eval_loss")
    losses = [line for line in (train, held_out) if line.points]
    figures = []
    if losses:
        drawing = line_chart("loss over the steps of training", losses, STEP_AXIS, "nats per token", log=True)
        figures.append(figure("Loss", drawing, _last(losses)))
    rate = _line("learning rate", entries, "learning_rate")
    if rate.points:
        figures.append(figure("Learning rate", line_chart("learning rate over the steps", [rate], STEP_AXIS, "")))
    for key, meaning in (METRICS | FAULTS | LOGGED).items():
        pair = (_line("training", entries, key), _line("held out", entries, f"eval_{key}"))
        lines = [line for line in pair if line.points]
        if lines and key != "loss":
            drawing = line_chart(f"{meaning.name} over the steps", lines, STEP_AXIS, "")
            figures.append(figure(meaning.name[0].upper() + meaning.name[1:], drawing, _last(lines)))
    infinite = sum(not math.isfinite(y) for line in losses for _, y in line.points)
    notes = f'<p class="warn">Logged losses that are not finite numbers: {infinite}.</p>' if infinite else ""
    notes += f'<p class="warn">Lines of the log that cannot be read: {damaged}.</p>' if damaged else ""
    body = f'{notes}<div class="grid">{"".join(figures)}</div>' if figures else notes
    return section("training", "Training", body)


def distributions_section(rows: Sequence[dict[str, Any]]) -> str:
    """Histograms over the held-out rows: the finest score, steps, and lengths of answers, beside gold."""
    figures = []
    scores = [row.get("scores") for row in rows]
    for key in RANKING:
        values = [value for score in scores if isinstance(score, dict) and (value := number_in(score, key)) is not None]
        if values and key != "exact_match":
            bounds = [place / 20 for place in range(21)]
            name = METRICS[key].name
            drawing = histogram(f"distribution of {name} over the rows", [Counts("rows", values)], bounds, name)
            figures.append(figure(name, drawing, f"median {sorted(values)[len(values) // 2]:.3f}"))
            break
    steps = [(row["sub_questions"], row["gold"]) for row in rows if _has_steps(row)]
    if steps:
        figures.append(figure("Steps per row", _step_counts(steps)))
    lengths = [
        (len(row["text"]), len(gold)) for row in rows if isinstance(row.get("text"), str) and (gold := _gold(row))
    ]
    if lengths:
        predicted, gold_lengths = [a for a, _ in lengths], [b for _, b in lengths]
        bounds = round_bounds(predicted + gold_lengths)
        series = [Counts("predicted", predicted), Counts("gold", gold_lengths)]
        drawing = histogram("characters of the answers, predicted and gold", series, bounds, "characters")
        figures.append(figure("Length of answers", drawing))
    body = f'<div class="grid">{"".join(figures)}</div>' if figures else ""
    return section("distributions", "Distributions", body)


def _line(name: str, entries: Sequence[dict[str, Any]], key: str) -> Series:
    logged = [(entry["step"], entry[key]) for entry in entries if isinstance(entry.get(key), int | float)]
    by_step = {step: float(y) if abs(y) < LARGEST else math.nan for step, y in logged}
    return Series(name, sorted(by_step.items()))


def _last(lines: Sequence[Series]) -> str:
    return ", ".join(f"{line.name} {line.points[-1][1]:.4g}" for line in lines) + " at the end"


def _has_steps(row: dict[str, Any]) -> bool:
    return isinstance(row.get("sub_questions"), list) and isinstance(row.get("gold"), list)


def _gold(row: dict[str, Any]) -> str | None:
    gold = row.get("gold")
    return Decomposition(tuple(map(str, gold))).render() if isinstance(gold, list) else gold


def _step_counts(steps: Sequence[tuple[list[str], list[str]]]) -> str:
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
