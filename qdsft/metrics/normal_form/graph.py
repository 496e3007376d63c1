"""The graph of a decomposition while it is being rewritten: numbered nodes, an edge for every reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from qdsft.decomposition import reference_number
from qdsft.metrics import MARKED_REFERENCE, mark_references
from qdsft.metrics.normal_form.tokens import Ref, Token


class RewriteError(ValueError):
    """A graph that cannot be brought into normal form; it is scored as it is."""


@dataclass
class Operation:
    """A node whose meaning is known: `name[meta](arguments)`, the arguments being numbers of nodes."""

    name: str
    meta: tuple[str, ...]
    arguments: tuple[int, ...]

    @property
    def label(self) -> str:
        """As in `FILTER(@@1@@,@@2@@)` or `AGGREGATE[COUNT](@@3@@)`."""
        meta = f"[{','.join(self.meta)}]" if self.meta else ""
        return f"{self.name}{meta}({','.join(f'@@{number}@@' for number in self.arguments)})"


@dataclass
class Node:
    """A step, or a part of one that a rule took out."""

    text: str = ""
    """The step as given, its references written `@@n@@`."""
    tokens: list[Token] = field(default_factory=list)
    operation: Operation | None = None
    """The final reading, once a rule has found one; rules leave such a node alone."""
    successors: set[int] = field(default_factory=set)
    """The nodes that this one refers to."""

    @property
    def label(self) -> str:
        return self.operation.label if self.operation else " ".join(token.lemma for token in self.tokens)

    def refresh_successors(self) -> None:
        """Take the edges anew from what the node now refers to."""
        if self.operation:
            self.successors = set(self.operation.arguments)
        else:
            self.successors = {token.number for token in self.tokens if isinstance(token, Ref)}


Graph = dict[int, Node]
"""Node number -> node, in BREAK's order of nodes: that of the edges, then the steps without any."""


def step_graph(steps: Sequence[str]) -> Graph:
    """The graph of steps numbered from 1; a number referred to that is no step gets an empty node."""
    texts = [mark_references(step) for step in steps]
    # dict.fromkeys: the numbers that a step refers to, each once, in order.
    references = [list(dict.fromkeys(map(reference_number, MARKED_REFERENCE.findall(text)))) for text in texts]
    graph: Graph = {}
    for number, referred in enumerate(references, start=1):
        for other in referred:
            graph.setdefault(number, Node())
            graph.setdefault(other, Node())
            graph[number].successors.add(other)
    for number, text in enumerate(texts, start=1):
        graph.setdefault(number, Node()).text = text
    return graph


def is_numbered_through(numbers: Iterable[int]) -> bool:
    """Whether the numbers are 1, 2, ..., n, in any order; a dangling reference leaves a gap."""
    found = sorted(numbers)
    return found == list(range(1, len(found) + 1))
