"""The last rule: a whole step that is one of QDMR's operators becomes that operation."""

from __future__ import annotations

import re

from qdsft.metrics.break_official.normal_form.graph import Graph
from qdsft.metrics.break_official.normal_form.operators import arguments_of, operator_of
from qdsft.metrics.break_official.normal_form.phrases import Phrases, without_own
from qdsft.metrics.break_official.normal_form.spans import Span, make_operation
from qdsft.metrics.break_official.normal_form.tokens import Ref
from qdsft.metrics.text_overlap import mark_references

_ANY = 10**9
_COUNTS = {
    "AGGREGATE": ((1, 1), (1, 1)),
    "BOOLEAN": ((1, 1), (1, _ANY)),
    "COMPARISON": ((1, 1), (2, _ANY)),
    "COMPARATIVE": ((1, 1), (3, 3)),
    "DISCARD": ((0, 0), (2, 2)),
    "FILTER": ((0, 1), (2, 2)),
    "INTERSECTION": ((0, 0), (3, _ANY)),
    "SORT": ((0, 0), (2, 2)),
    "SUPERLATIVE": ((1, 1), (2, 2)),
    "UNION": ((0, 0), (2, _ANY)),
}
"""Operator -> minimum and maximum number of meta values and of arguments; other operators are not built."""


def wrap(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ , @@2@@ -> UNION(@@1@@,@@2@@), and so on for the operators of `operators.py`."""
    tokens = graph[number].tokens
    step = " ".join(f"#{token.number}" if isinstance(token, Ref) else token.text for token in tokens)
    try:
        operator = operator_of(step)
        arguments = arguments_of(operator, step) if operator in _COUNTS else []
    except (ValueError, IndexError):
        return []
    if not arguments:
        return []
    texts = [token.text for token in tokens]
    runs = [(argument, find_run(texts, _as_tokens(argument))) for argument in arguments]
    meta = [argument for argument, span in runs if not span]
    spans = [span for _, span in runs if span]
    metas, found = _COUNTS[operator]
    if not metas[0] <= len(meta) <= metas[1] or not found[0] <= len(spans) <= found[1]:
        return []
    return make_operation(graph, number, operator, meta, spans, without_own(protected, operator))


def find_run(texts: list[str], wanted: list[str]) -> Span | None:
    """Return the first span of `texts` that equals the wanted texts; None if there is none."""
    ends = ((start, start + len(wanted)) for start, text in enumerate(texts) if text == wanted[0])
    return next(((start, end) for start, end in ends if texts[start:end] == wanted), None)


def _as_tokens(argument: str) -> list[str]:
    """Return the texts of the tokens that an argument stands for.

    A blank at either end makes an empty one, which is found nowhere, and neither is anything with a semicolon, which
    in BREAK's strings ends a step. A `return`, which begins one, is left out together with the blanks before it.
    """
    if ";" in argument:
        return [""]
    return mark_references(re.sub(r"^\s*return\s+", "", argument)).split(" ")
