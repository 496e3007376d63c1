"""Move spans of a node's tokens into new nodes, and make a node an operation on spans."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.break_official.normal_form.graph import Graph
from qdsft.metrics.break_official.normal_form.phrases import Phrases, is_protected
from qdsft.metrics.break_official.normal_form.tokens import Ref, Token

Span = tuple[int, int]
"""[start, end) in a node's tokens, never empty."""


def extract(graph: Graph, number: int, spans: Sequence[Span], protected: Phrases) -> list[int]:
    """Move spans of a node's tokens to new nodes, replace them by references, and return the new numbers.

    Left where they are: the whole node, a single reference (it is a node already) and a span that `is_protected`.
    All spans are places in the tokens as they were before; of two that overlap both become nodes.
    """
    tokens = graph[number].tokens
    movable = [span for span in spans if _reference(tokens, span) is None]
    if not movable:
        return []
    made = _move(graph, number, tokens, [span for span in movable if not _is_refused(tokens, span, protected)])
    return [reference.number for reference in made]


def extract_all(
    graph: Graph, number: int, tokens: list[Token], spans: Sequence[Span], protected: Phrases
) -> tuple[list[Ref], list[int]] | None:
    """Return a reference for each span of `tokens`, which become the node's, and the new numbers; None if refused.

    A span that is a single reference is that reference; all others are moved to new nodes.
    """
    if any(_is_refused(tokens, span, protected) for span in spans):
        return None
    made = _move(graph, number, tokens, [span for span in spans if _reference(tokens, span) is None])
    rest = iter(made)
    found = [_reference(tokens, span) or next(rest) for span in spans]
    return found, [reference.number for reference in made]


def make_operation(
    graph: Graph, number: int, name: str, meta: Sequence[str], arguments: Sequence[Span], protected: Phrases
) -> list[int]:
    """Make a node the operation `name[meta](arguments)`, each argument a node; return the new numbers.

    Nothing happens if one of the arguments may not be extracted. The node keeps an edge for every reference in its
    tokens, also for those that are no argument.
    """
    node = graph[number]
    extracted = extract_all(graph, number, node.tokens, arguments, protected)
    if extracted is None:
        return []
    references, made = extracted
    shown = f"[{','.join(meta)}]" if meta else ""
    node.label = f"{name}{shown}({','.join(reference.text for reference in references)})"
    node.is_filter = name == "FILTER" and not meta
    return made


def _move(graph: Graph, number: int, tokens: list[Token], spans: Sequence[Span]) -> list[Ref]:
    left: list[Token] = []
    made: list[Ref] = []
    last = 0
    for start, end in spans:
        moved = tokens[start:end]
        reference = Ref(f"@@{graph.add(number, moved)}@@", _first(moved[0]), _end(moved[-1]))
        left += [*tokens[last:start], reference]
        made.append(reference)
        last = end
    graph[number].tokens = left + tokens[last:]
    graph.refer(number, graph[number].tokens)
    return made


def _is_refused(tokens: Sequence[Token], span: Span, protected: Phrases) -> bool:
    return span == (0, len(tokens)) or is_protected(tokens, *span, protected)


def _reference(tokens: Sequence[Token], span: Span) -> Ref | None:
    """Return the reference that a span consists of; None for any other span."""
    token = tokens[span[0]]
    return token if span[1] - span[0] == 1 and isinstance(token, Ref) else None


def _first(token: Token) -> int:
    return token.start if isinstance(token, Ref) else token.index


def _end(token: Token) -> int:
    return token.end if isinstance(token, Ref) else token.index + 1
