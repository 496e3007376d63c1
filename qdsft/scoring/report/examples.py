"""The part of a report that shows rows: the worst and the median ones, as graphs side by side and as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import normalise
from qdsft.metrics.catalog import RANKING, shown_in
from qdsft.metrics.numbers import number_in
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.page import section
from qdsft.scoring.report.text import escape

WORST, MEDIAN = 8, 4
LONGEST_TEXT = 600
"""Characters of one text; predictions.jsonl holds all of it."""
MOST_LINES = 40


def examples_section(rows: Sequence[PredictionRow]) -> str:
    """The worst and the median rows by the metrics of RANKING; rows of equal scores in their order."""
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))
    middle = len(ranked) // 2 - MEDIAN // 2
    if middle < WORST:
        body = _part("", ranked, range(min(len(ranked), WORST + MEDIAN)), rows)
    else:
        body = _part("The lowest", ranked, range(WORST), rows)
        body += _part("The middle", ranked, range(middle, middle + MEDIAN), rows)
    by = [metric.name for metric in RANKING if rows and number_in(rows[0].scores, metric.key) is not None]
    lead = f"Ordered by {', then '.join(by)}, the lowest first. " if by else ""
    lead += "Tinted: a step that stands on one side only. Dashed: a reference that cannot be followed."
    return section("examples", "Examples", body, lead)


def _part(name: str, ranked: Sequence[int], places: range, rows: Sequence[PredictionRow]) -> str:
    heading = f'<p class="part">{name}</p>' if name else ""
    return heading + "".join(
        _example(f"{place + 1:,} of {len(ranked):,}", ranked[place], rows[ranked[place]]) for place in places
    )


def _rank(row: PredictionRow) -> tuple[float, ...]:
    values = [number_in(row.scores, metric.key) for metric in RANKING]
    return tuple(1.0 if value is None else value for value in values)


def _example(rank: str, index: int, row: PredictionRow) -> str:
    facts = [rank, f"row {index + 1}", *filter(None, (row.language, row.source))]
    values = [(metric.name, number_in(row.scores, metric.key)) for metric in shown_in("examples")]
    facts += [f"{name} {value:.3f}" for name, value in values if value is not None]
    if row.stopped is False:
        facts.append("cut off at the length limit")
    question = f"<h3{_language(row)}>{_text(row.question)}</h3>"
    return f'<article><header><p class="note">{escape(" · ".join(facts))}</p>{question}</header>{_sides(row)}</article>'


def _sides(row: PredictionRow) -> str:
    if isinstance(row.gold, str) or row.sub_questions is None:
        sides = [("gold", row.gold if isinstance(row.gold, str) else "\n".join(row.gold)), ("predicted", row.text)]
        texts = "".join(f"<div><h4>{name}</h4><pre{_language(row)}>{_text(text)}</pre></div>" for name, text in sides)
        return f'<div class="pair">{texts}</div>'
    steps = [row.gold, row.sub_questions]
    words = [[normalise(step) for step in side] for side in steps]
    figures = ""
    for place, name in enumerate(("gold", "predicted")):
        alone = [number for number, step in enumerate(words[place], start=1) if step not in words[1 - place]]
        drawing = draw_graph(Decomposition(tuple(steps[place])), f"graph of the {name} steps", alone)
        figures += (
            f"<figure><h4>{name}</h4>{drawing}{_list(steps[place], row)}{_problems(row) if place else ''}</figure>"
        )
    return f'<div class="pair">{figures}</div>'


def _list(steps: Sequence[str], row: PredictionRow) -> str:
    items = "".join(f'<li dir="auto">{_text(step)}</li>' for step in steps[:MOST_LINES])
    more = (
        f'<p class="note">and {len(steps) - MOST_LINES} more steps, in predictions.jsonl</p>'
        if len(steps) > MOST_LINES
        else ""
    )
    return f'<ol class="texts"{_language(row)}>{items}</ol>{more}'


def _problems(row: PredictionRow) -> str:
    named = row.problems or []
    said = "; ".join(named[:10]) + (f"; and {len(named) - 10} more" if len(named) > 10 else "")
    return f'<p class="note warn">{escape(said)}</p>' if named else ""


def _text(text: str) -> str:
    left_out = len(text) - LONGEST_TEXT
    more = f' <span class="note">… {left_out:,} more characters, in predictions.jsonl</span>' if left_out > 0 else ""
    # Isolated, so that a text from right to left, or a stray control character for it, turns nothing else around.
    return f'<bdi dir="auto">{escape(text[:LONGEST_TEXT])}</bdi>{more}'


def _language(row: PredictionRow) -> str:
    named = re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", row.language)
    return f' lang="{row.language}"' if named else ""
