"""The section of a report that shows the worst and the median rows, as graphs side by side and as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import normalise
from qdsft.metrics.catalog import RANKING, shown_in
from qdsft.metrics.numbers import number_in
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.markup import render

WORST, MEDIAN = 8, 4
LONGEST_TEXT = 600
"""Characters of a text that are shown. predictions.jsonl has the whole text."""
MOST_STEPS = 40


@dataclass(frozen=True)
class _Side:
    """The gold answer or the model's: a graph with steps and problems, or, without a graph, a text."""

    name: str
    text: str = ""
    graph: Markup | None = None
    steps: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Example:
    question: str
    language: str
    facts: list[str]
    sides: list[_Side]


@dataclass(frozen=True)
class _Part:
    name: str
    examples: list[_Example]


def examples_section(rows: Sequence[PredictionRow]) -> Markup:
    """Return the worst and the median rows by the metrics of RANKING. Rows of equal scores keep their order."""
    if not rows:
        return Markup("")
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))

    def part(name: str, places: range) -> _Part:
        facts = {place: f"{place + 1:,} of {len(ranked):,}" for place in places}
        return _Part(name, [_example(facts[place], ranked[place], rows[ranked[place]]) for place in places])

    middle = len(ranked) // 2 - MEDIAN // 2
    if middle < WORST:
        parts = [part("", range(min(len(ranked), WORST + MEDIAN)))]
    else:
        parts = [part("Lowest scores", range(WORST)), part("Median scores", range(middle, middle + MEDIAN))]
    by = [metric.name for metric in RANKING if number_in(rows[0].scores, metric.key) is not None]
    lead = f"Ordered by {', then '.join(by)}, the lowest first. " if by else ""
    lead += "Blue: a step of this answer only. Dashed: a reference that cannot be followed."
    return render("examples.html", lead=lead, parts=parts, longest=LONGEST_TEXT, most_steps=MOST_STEPS)


def _rank(row: PredictionRow) -> tuple[float, ...]:
    values = [number_in(row.scores, metric.key) for metric in RANKING]
    return tuple(1.0 if value is None else value for value in values)


def _example(rank: str, index: int, row: PredictionRow) -> _Example:
    facts = [rank, f"row {index + 1}", *filter(None, (row.language, row.source))]
    values = [(metric.name, number_in(row.scores, metric.key)) for metric in shown_in("examples")]
    facts += [f"{name} {value:.3f}" for name, value in values if value is not None]
    if row.stopped is False:
        facts.append("cut off at the length limit")
    return _Example(row.question, _language(row), facts, _sides(row))


def _sides(row: PredictionRow) -> list[_Side]:
    if isinstance(row.gold, str) or row.sub_questions is None:
        gold = row.gold if isinstance(row.gold, str) else "\n".join(row.gold)
        return [_Side("gold", gold), _Side("predicted", row.text)]
    steps = [row.gold, row.sub_questions]
    words = [[normalise(step) for step in side] for side in steps]
    sides = []
    for place, name in enumerate(("gold", "predicted")):
        alone = [number for number, step in enumerate(words[place], start=1) if step not in words[1 - place]]
        graph = Markup(draw_graph(Decomposition(tuple(steps[place])), f"graph of the {name} steps", alone))
        sides.append(_Side(name, graph=graph, steps=steps[place], problems=row.problems or [] if place else []))
    return sides


def _language(row: PredictionRow) -> str:
    return row.language if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", row.language) else ""
