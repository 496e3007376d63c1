"""From the steps of a decomposition to those of its normal form."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from qdsft.metrics.normal_form.graph import Graph, RewriteError, is_numbered_through, step_graph
from qdsft.metrics.normal_form.order import ordered_steps
from qdsft.metrics.normal_form.phrases import EVERY_PHRASE, Phrases
from qdsft.metrics.normal_form.rules import RULES
from qdsft.metrics.normal_form.tokens import parse_steps

LONGEST_STEP = 10_000
"""Characters; a model that never stops writes longer ones, which are not worth minutes of parsing."""
_PASSES: tuple[Phrases, ...] = (EVERY_PHRASE, frozenset())
"""What is protected in each of the two times that the rules go over a node."""


def normal_form(steps: Sequence[str]) -> list[str] | None:
    """The steps of the normal form, references written `@@n@@`; None if a reference dangles.

    Steps that cannot be rewritten, or one of which is longer than LONGEST_STEP, come back as they are. Raises
    UserError if spaCy or its model is absent.
    """
    graph = step_graph(steps)
    if not is_numbered_through(graph):
        return None
    given = [graph[number].text for number in sorted(graph)]
    if any(len(text) > LONGEST_STEP for text in given):
        return given
    for node, tokens in zip(graph.values(), parse_steps([node.text for node in graph.values()]), strict=True):
        node.tokens = tokens
    try:
        apply_rules(graph)
        return ordered_steps(graph)
    except RewriteError:
        return given


def apply_rules(graph: Graph) -> None:
    """Run the rules over every node of the graph, and over the nodes that they make."""
    queue = deque(graph)
    while queue:
        number = queue.popleft()
        for protected in _PASSES:
            for rule in RULES:
                if graph[number].operation is None:
                    queue += rule(graph, number, protected)
