"""The graph of a decomposition during rewriting: numbered nodes, an edge for every reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from qdsft.data.decomposition import reference_number
from qdsft.metrics.break_official.normal_form.tokens import Token
from qdsft.metrics.text_overlap import MARKED_REFERENCE, mark_references


class RewriteError(Exception):
    """A graph that cannot be brought into normal form; it is scored as it is."""


@dataclass
class Node:
    """A step, or a part of a step that a rule extracted."""

    text: str = ""
    """The step as given, its references written `@@n@@`."""
    tokens: list[Token] = field(default_factory=list)
    label: str | None = None
    """The final reading, `FILTER(@@1@@,@@2@@)` or `AGGREGATE[COUNT](@@3@@)`, once a rule has found one; rules leave
    such a node alone."""
    is_filter: bool = False
    """True if the label is a FILTER without meta."""
    successors: dict[int, None] = field(default_factory=dict)
    """The nodes that this one refers to. These and `users` are sets that keep the order in which edges were made."""
    users: dict[int, None] = field(default_factory=dict)
    """The nodes that refer to this one."""

    @property
    def final_label(self) -> str:
        """The label, or the lemmas if no rule has labelled the node."""
        return " ".join(token.lemma for token in self.tokens) if self.label is None else self.label


class Graph(dict[int, Node]):
    """Node number -> node, in BREAK's order of nodes: that of the edges, then the steps without any.

    The order of nodes and edges decides which of two equal nodes is kept, so both follow the evaluator.
    """

    def connect(self, number: int, other: int) -> None:
        self[number].successors[other] = None
        self[other].users[number] = None

    def disconnect(self, number: int, other: int) -> None:
        """Raises RewriteError if there is no such edge."""
        if other not in self[number].successors:
            raise RewriteError(f"{number} has lost its edge to {other}")
        del self[number].successors[other]
        del self[other].users[number]

    def refer(self, number: int, tokens: Sequence[Token]) -> None:
        """Replace the edges of a node by the references in these tokens, also those inside words.

        Raises RewriteError for a reference that splitting the text into tokens made.
        """
        for other in list(self[number].successors):
            self.disconnect(number, other)
        for other in _references(" ".join(token.text for token in tokens)):
            if other not in self:
                raise RewriteError(f"{other} is no node")
            self.connect(number, other)

    def add(self, user: int, tokens: list[Token]) -> int:
        """Add a node of these tokens that `user` refers to, and return its number.

        That is the number of nodes plus one, which a node may have already where a reference dangles. As in the
        evaluator that node's tokens are lost.
        """
        number = len(self) + 1
        self.setdefault(number, Node()).tokens = tokens
        self.connect(user, number)
        self.refer(number, tokens)
        return number

    def remove(self, number: int) -> None:
        for other in list(self[number].successors):
            self.disconnect(number, other)
        for user in list(self[number].users):
            self.disconnect(user, number)
        del self[number]


def step_graph(steps: Sequence[str]) -> Graph:
    """Return the graph of steps numbered from 1; a reference to no step gets an empty node."""
    texts = [mark_references(step) for step in steps]
    graph = Graph()
    for number, text in enumerate(texts, start=1):
        for other in _references(text):
            graph.setdefault(number, Node())
            graph.setdefault(other, Node())
            graph.connect(number, other)
    for number, text in enumerate(texts, start=1):
        graph.setdefault(number, Node()).text = text
    return graph


def in_steps(labels: dict[int, str]) -> list[str] | None:
    """Return the labels of nodes 1, 2, ..., n as steps; None if a dangling reference left a gap."""
    if labels.keys() != set(range(1, len(labels) + 1)):
        return None
    return [labels[number] for number in range(1, len(labels) + 1)]


def _references(text: str) -> list[int]:
    return [reference_number(digits) for digits in MARKED_REFERENCE.findall(text)]
