"""Taking a span of a node's tokens out into a node of its own, and making a node an operation on such spans."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.normal_form.graph import Graph, Node, Operation
from qdsft.metrics.normal_form.phrases import Phrases, is_protected
from qdsft.metrics.normal_form.tokens import Ref, Token

Span = tuple[int, int]
"""[start, end) in a node's tokens, never empty."""


def extract(graph: Graph, number: int, span: Span, protected: Phrases) -> list[int]:
    """Move a span to a new node and refer to that in its place; returns its number, or nothing if refused.

    Refused are the whole node, a single reference (it is a node already) and a span that `is_protected`.
    """
    start, end = span
    node = graph[number]
    moved = node.tokens[start:end]
    if _single_reference(moved) or _is_refused(node.tokens, span, protected):
        return []
    new = _add(graph, moved)
    node.tokens = [*node.tokens[:start], Ref(new, _first(moved[0]), _end(moved[-1])), *node.tokens[end:]]
    node.refresh_successors()
    return [new]


def make_operation(
    graph: Graph, number: int, name: str, meta: Sequence[str], arguments: Sequence[Span], protected: Phrases
) -> list[int]:
    """Make a node the operation `name[meta](arguments)`, each argument a node; returns the new numbers.

    Nothing happens if one of the arguments may not be extracted.
    """
    node = graph[number]
    spans = [(span, node.tokens[slice(*span)]) for span in arguments]
    if any(not _single_reference(tokens) and _is_refused(node.tokens, span, protected) for span, tokens in spans):
        return []
    known = len(graph)
    numbers = [
        reference.number if (reference := _single_reference(tokens)) else _add(graph, tokens) for _, tokens in spans
    ]
    node.operation = Operation(name, tuple(meta), tuple(numbers))
    node.refresh_successors()
    return list(range(known + 1, len(graph) + 1))


def _is_refused(tokens: Sequence[Token], span: Span, protected: Phrases) -> bool:
    return span == (0, len(tokens)) or is_protected(tokens, *span, protected)


def _single_reference(tokens: Sequence[Token]) -> Ref | None:
    return tokens[0] if len(tokens) == 1 and isinstance(tokens[0], Ref) else None


def _add(graph: Graph, tokens: list[Token]) -> int:
    """A new node of these tokens; nodes are numbered through, so that the next number is free."""
    number = len(graph) + 1
    graph[number] = Node(tokens=tokens)
    graph[number].refresh_successors()
    return number


def _first(token: Token) -> int:
    return token.start if isinstance(token, Ref) else token.index


def _end(token: Token) -> int:
    return token.end if isinstance(token, Ref) else token.index + 1
