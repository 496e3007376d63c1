"""The last rule: a whole step that is one of QDMR's operators becomes that operation."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.normal_form.graph import Graph
from qdsft.metrics.normal_form.operators import arguments_of, operator_of
from qdsft.metrics.normal_form.phrases import Phrases, without_own
from qdsft.metrics.normal_form.spans import Span, make_operation
from qdsft.metrics.normal_form.tokens import Ref

_ANY = 10**9
_COUNTS = {
    "AGGREGATE": ((1, 1), (1, 1)),
    "BOOLEAN": ((1, 1), (1, _ANY)),
    "COMPARISON": ((1, 1), (2, _ANY)),
    "COMPARATIVE": ((1, 1), (3, 3)),
    "DISCARD": ((0, 0), (2, 2)),
    "FILTER": ((0, 1), (2, 2)),
    "GROUP": ((1, 1), (1, 1)),
    "INTERSECTION": ((0, 0), (3, _ANY)),
    "SORT": ((0, 0), (2, 2)),
    "SUPERLATIVE": ((1, 1), (2, 2)),
    "UNION": ((0, 0), (2, _ANY)),
}
"""Operator -> least and most of meta values, and of arguments; an operator that is not here is not built."""


def wrap(graph: Graph, number: int, protected: Phrases) -> list[int]:
    """@@1@@ , @@2@@ -> UNION(@@1@@,@@2@@), and so on for the operators of `operators.py`."""
    texts = [f"#{token.number}" if isinstance(token, Ref) else token.text for token in graph[number].tokens]
    step = " ".join(texts)
    operator = operator_of(step)
    if operator not in _COUNTS:
        return []
    meta: list[str] = []
    spans: list[Span] = []
    for argument in arguments_of(operator, step):
        span = find_run(texts, argument.split(" "))
        if span:
            spans.append(span)
        else:
            meta.append(argument)
    metas, arguments = _COUNTS[operator]
    if not metas[0] <= len(meta) <= metas[1] or not arguments[0] <= len(spans) <= arguments[1]:
        return []
    return make_operation(graph, number, operator, meta, spans, without_own(protected, operator))


def find_run(texts: Sequence[str], wanted: Sequence[str]) -> Span | None:
    """The first place where the wanted texts follow one another, as a span of `texts`; None if there is none."""
    size = len(wanted)
    return next(
        ((i, i + size) for i in range(len(texts) - size + 1) if list(texts[i : i + size]) == list(wanted)), None
    )
