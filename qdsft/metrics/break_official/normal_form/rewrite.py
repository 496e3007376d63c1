"""Rewrite the steps of a decomposition into its normal form."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from qdsft.metrics.break_official.normal_form.filters import reorder_filters
from qdsft.metrics.break_official.normal_form.graph import Graph, RewriteError, in_steps, step_graph
from qdsft.metrics.break_official.normal_form.order import renumber
from qdsft.metrics.break_official.normal_form.phrases import EVERY_PHRASE, Phrases
from qdsft.metrics.break_official.normal_form.rules import RULES
from qdsft.metrics.break_official.normal_form.tokens import parse_steps

LONGEST_STEP = 10_000
"""Characters of a step. A model that never stops writes longer ones, which would take minutes to parse."""
_PASSES: tuple[Phrases, ...] = (EVERY_PHRASE, frozenset())
"""The protected phrases in each of the two passes of the rules over a node."""


def normal_form(steps: Sequence[str]) -> list[str] | None:
    """Return the steps of the normal form, references written `@@n@@`.

    Steps that cannot be rewritten, or one of which is longer than LONGEST_STEP, come back as they are. A reference
    that dangles has an empty step, by any number. None if a dangling reference leaves a gap in the numbers even so:
    where the steps come back as they are, or where references go round in a circle. Raises UserError if spaCy or
    its model is absent.
    """
    graph = step_graph(steps)
    given = in_steps({number: node.text for number, node in graph.items()})
    if any(len(node.text) > LONGEST_STEP for node in graph.values()):
        return given
    try:
        for node, tokens in zip(graph.values(), parse_steps([node.text for node in graph.values()]), strict=True):
            node.tokens = tokens
        apply_rules(graph)
        reorder_filters(graph)
        return in_steps(renumber(graph))
    except (RewriteError, UnicodeEncodeError):
        return given


def apply_rules(graph: Graph) -> None:
    """Run the rules over every node of the graph, and over the nodes that they make.

    Raises RewriteError as `Graph.refer` does.
    """
    queue = deque(graph)
    while queue:
        number = queue.popleft()
        for protected in _PASSES:
            for rule in RULES:
                if graph[number].label is None:
                    queue += rule(graph, number, protected)
