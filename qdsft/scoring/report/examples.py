"""The part of a report that shows rows: the worst and the median ones, as graphs side by side and as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qdsft.data.decomposition import Decomposition
from qdsft.data.text import normalise
from qdsft.metrics.meanings import METRICS, RANKING, number_in
from qdsft.scoring.report.graph_svg import draw_graph
from qdsft.scoring.report.page import section
from qdsft.scoring.report.text import escape

WORST, MEDIAN = 8, 4
LONGEST_TEXT = 600
"""Characters of one text; predictions.jsonl holds all of it."""
MOST_LINES = 40
SCORES = ("exact_match", *RANKING[:3], "edge_f1", "structural_ged", "ged")


def examples_section(rows: Sequence[dict[str, Any]]) -> str:
    """The worst and the median rows by the metrics of RANKING; rows of equal scores in their order."""
    ranked = sorted(range(len(rows)), key=lambda index: (_rank(rows[index]), index))
    middle = len(ranked) // 2 - MEDIAN // 2
    if middle < WORST:
        body = _part("", ranked, range(min(len(ranked), WORST + MEDIAN)), rows)
    else:
        body = _part("The lowest", ranked, range(WORST), rows)
        body += _part("The middle", ranked, range(middle, middle + MEDIAN), rows)
    by = [METRICS[key].name for key in RANKING if rows and number_in(_scores(rows[0]), key) is not None]
    lead = f"Ordered by {', then '.join(by)}, the lowest first. " if by else ""
    lead += "Tinted: a step that stands on one side only. Dashed: a reference that cannot be followed."
    return section("examples", "Examples", body, lead)


def _part(name: str, ranked: Sequence[int], places: range, rows: Sequence[dict[str, Any]]) -> str:
    heading = f'<p class="part">{name}</p>' if name else ""
    return heading + "".join(
        _example(f"{place + 1:,} of {len(ranked):,}", ranked[place], rows[ranked[place]]) for place in places
    )


def _rank(row: dict[str, Any]) -> tuple[float, ...]:
    scores = _scores(row)
    return tuple(1.0 if (value := number_in(scores, key)) is None else value for key in RANKING)


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    scores = row.get("scores")
    return scores if isinstance(scores, dict) else {}


def _example(rank: str, index: int, row: dict[str, Any]) -> str:
    facts = [rank, f"row {index + 1}", *(str(row[key]) for key in ("language", "source") if row.get(key))]
    values = [(METRICS[key].name, number_in(_scores(row), key)) for key in SCORES]
    facts += [f"{name} {value:.3f}" for name, value in values if value is not None]
    if row.get("stopped") is False:
        facts.append("cut off at the length limit")
    question = f"<h3{_language(row)}>{_text(str(row.get('question') or ''))}</h3>"
    return f'<article><header><p class="note">{escape(" · ".join(facts))}</p>{question}</header>{_sides(row)}</article>'


def _sides(row: dict[str, Any]) -> str:
    gold, predicted = row.get("gold"), row.get("sub_questions")
    if not isinstance(gold, list) or not isinstance(predicted, list):
        sides = [("gold", gold if isinstance(gold, str) else ""), ("predicted", str(row.get("text", "")))]
        texts = "".join(f"<div><h4>{name}</h4><pre{_language(row)}>{_text(text)}</pre></div>" for name, text in sides)
        return f'<div class="pair">{texts}</div>'
    steps = [[str(step) for step in side] for side in (gold, predicted)]
    words = [[normalise(step) for step in side] for side in steps]
    figures = ""
    for place, name in enumerate(("gold", "predicted")):
        alone = [number for number, step in enumerate(words[place], start=1) if step not in words[1 - place]]
        drawing = draw_graph(Decomposition(tuple(steps[place])), f"graph of the {name} steps", alone)
        figures += (
            f"<figure><h4>{name}</h4>{drawing}{_list(steps[place], row)}{_problems(row) if place else ''}</figure>"
        )
    return f'<div class="pair">{figures}</div>'


def _list(steps: Sequence[str], row: dict[str, Any]) -> str:
    items = "".join(f'<li dir="auto">{_text(step)}</li>' for step in steps[:MOST_LINES])
    more = (
        f'<p class="note">and {len(steps) - MOST_LINES} more steps, in predictions.jsonl</p>'
        if len(steps) > MOST_LINES
        else ""
    )
    return f'<ol class="texts"{_language(row)}>{items}</ol>{more}'


def _problems(row: dict[str, Any]) -> str:
    problems = row.get("problems")
    named = [str(problem) for problem in problems] if isinstance(problems, list) else []
    said = "; ".join(named[:10]) + (f"; and {len(named) - 10} more" if len(named) > 10 else "")
    return f'<p class="note warn">{escape(said)}</p>' if named else ""


def _text(text: str) -> str:
    left_out = len(text) - LONGEST_TEXT
    more = f' <span class="note">… {left_out:,} more characters, in predictions.jsonl</span>' if left_out > 0 else ""
    # Isolated, so that a text from right to left, or a stray control character for it, turns nothing else around.
    return f'<bdi dir="auto">{escape(text[:LONGEST_TEXT])}</bdi>{more}'


def _language(row: dict[str, Any]) -> str:
    language = row.get("language")
    named = isinstance(language, str) and re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language)
    return f' lang="{language}"' if named else ""
