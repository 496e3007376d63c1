"""Graph edit distance of two decompositions, as BREAK's official evaluator defines it, in bounded time.

The graph of a decomposition has a node a step and an edge from each step to every step that it refers to. The
distance is the least cost of turning one graph into the other, where to delete or insert a node or an edge costs
1 and to substitute a node costs nothing (structural) or the dissimilarity of the two texts (lexical); it is
divided by the larger graph's number of nodes and edges. 0 is best; where everything differs it may exceed 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdsft.metrics.break_official.ged_search import EPSILON, Problem, Search
from qdsft.metrics.text_overlap import MARKED_REFERENCE, mark_references

if TYPE_CHECKING:
    from qdsft.metrics.break_official.ged_search import Array

SECONDS = 10.0
"""Default time limit of one pair; see `Distance`."""


@dataclass(frozen=True)
class Distance:
    """A normalised graph edit distance, or its bounds if the search ran out of time."""

    value: float
    """The distance; if not `exact`, the cost of the best edit found, an upper bound."""
    lower: float
    """A lower bound; equals `value` if `exact`."""
    exact: bool


@dataclass(frozen=True)
class Graph:
    """The reference graph of a decomposition."""

    labels: tuple[str, ...]
    """Text of each node, references written as `@@n@@`; "" for a number that no step has."""
    edges: frozenset[tuple[int, int]]
    """(i, j): node i refers to node j; positions in `labels`, i = j for a step that refers to itself."""

    @classmethod
    def of(cls, steps: Sequence[str]) -> Graph:
        """Return the graph of steps with references `#n`; nodes in the evaluator's order: those with edges first.

        Texts are taken as they are: for official values they must come from `formats.break_steps`, which leaves
        a leading space where a step had its "return".
        """
        labels = [mark_references(step) for step in steps]
        pairs = [
            (i, _number(digits)) for i, label in enumerate(labels, 1) for digits in MARKED_REFERENCE.findall(label)
        ]
        numbers = list(dict.fromkeys([*(number for pair in pairs for number in pair), *range(1, len(labels) + 1)]))
        position = {number: at for at, number in enumerate(numbers)}
        known = dict(enumerate(labels, 1))
        edges = frozenset((position[i], position[j]) for i, j in pairs)
        return cls(tuple(known.get(number, "") if isinstance(number, int) else "" for number in numbers), edges)

    @property
    def size(self) -> int:
        """Number of nodes and edges."""
        return len(self.labels) + len(self.edges)


def structural_ged(predicted: Sequence[str], gold: Sequence[str], seconds: float = SECONDS) -> Distance:
    """Return the distance of the graphs alone, without the texts of the steps."""
    return graph_edit_distance(Graph.of(predicted), Graph.of(gold), lambda one, other: 1.0, seconds)


def lexical_ged(
    predicted: Sequence[str],
    gold: Sequence[str],
    similarity: Callable[[str, str], float],
    seconds: float = SECONDS,
) -> Distance:
    """Return BREAK's "GED": a substitution costs 1 - `similarity(predicted text, gold text)`.

    `similarity`, in 0..1, is `lexical.Lemmatizer().similarity` for official values.
    """
    return graph_edit_distance(Graph.of(predicted), Graph.of(gold), similarity, seconds)


def graph_edit_distance(
    predicted: Graph, gold: Graph, similarity: Callable[[str, str], float], seconds: float = SECONDS
) -> Distance:
    """Return the normalised distance of two graphs; 0 for two without nodes. The search stops after `seconds`.

    Without self loops it is the same in both directions if `similarity` is.
    """
    size = max(predicted.size, gold.size)
    if size == 0:
        return Distance(0.0, 0.0, True)
    problem = _problem(predicted, gold, similarity)
    allowed = seconds / 4 if problem.has_loops else seconds
    search = Search(
        problem if len(predicted.labels) <= len(gold.labels) else problem.transposed(), time.monotonic() + allowed
    )
    lower, best = search.run(), search.best
    if problem.has_loops:
        lower, best = _with_loops(problem, best, seconds - allowed)
    exact = best - lower < EPSILON
    return Distance(best / size, (best if exact else lower) / size, exact)


def _with_loops(problem: Problem, best: float, seconds: float) -> tuple[float, float]:
    """Return (lower bound, cost of the best edit) as networkx counts self loops, and so BREAK's official evaluator.

    networkx takes a self loop for the counterpart of any edge that it settles in the same step, so a step that refers
    to itself may stand for a reference to another step. The cost depends on the order of its search, therefore only
    its own search finds the official value. `best` is the cost when a self loop corresponds to a self loop only; the
    value of networkx is never above it.
    """
    from networkx import optimize_edit_paths
    from scipy.optimize import linear_sum_assignment

    nodes = problem.costs[linear_sum_assignment(problem.costs)].sum() + abs(
        problem.costs.shape[0] - problem.costs.shape[1]
    )
    lower = float(nodes + abs(int(problem.rows.sum()) - int(problem.columns.sum())))
    start = time.perf_counter()
    edits = optimize_edit_paths(
        _digraph(problem.rows),
        _digraph(problem.columns),
        node_subst_cost=lambda one, other: problem.costs[one["at"], other["at"]],
        upper_bound=best,
        timeout=seconds,
    )
    while best - lower > EPSILON:
        found = next(edits, None)
        if found is None:
            return (best if time.perf_counter() - start < seconds else lower), best
        best = min(best, float(found[2]))
    return best, best


def _digraph(matrix: Array) -> Any:
    from networkx import DiGraph

    graph = DiGraph()
    graph.add_nodes_from((at, {"at": at}) for at in range(len(matrix)))
    graph.add_edges_from(zip(*matrix.nonzero(), strict=True))
    return graph


def _problem(predicted: Graph, gold: Graph, similarity: Callable[[str, str], float]) -> Problem:
    import numpy as np

    rows, columns = (
        np.array(
            [[(i, j) in graph.edges for j in range(len(graph.labels))] for i in range(len(graph.labels))], dtype=bool
        )
        for graph in (predicted, gold)
    )
    m, n = len(predicted.labels), len(gold.labels)
    costs = np.array([[1.0 - similarity(one, other) for other in gold.labels] for one in predicted.labels])
    return Problem(rows.reshape(m, m), columns.reshape(n, n), costs.reshape(m, n))


def _number(digits: str) -> int | str:
    """Return the number, or its digits if `int` would refuse them; no step has such a number."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 10 else digits
