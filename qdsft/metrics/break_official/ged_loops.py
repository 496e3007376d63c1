"""Graph edit distance of graphs with self loops, as networkx counts it and therefore BREAK's official evaluator.

networkx settles edges node pair by node pair, in the order in which its search decides them, and takes a
self loop for the counterpart of ANY edge that is settled in the same step: the loop of a step that refers to
itself may stand for a reference to another step. The value depends on that order, and so on which graph is the first.
This search goes through the pairs in networkx's order, and adds bounds, which leave the least cost as it is: the
cost where loops correspond to loops only is never lower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdsft.metrics.break_official.ged_search import Problem, Search

if TYPE_CHECKING:
    from qdsft.metrics.break_official.ged_search import Array

Pair = tuple[int | None, int | None]

FIRST_WAITS = True
"""Whether, if both graphs have edges, the loops of the first pair are settled with the second one, as in networkx 3.

In networkx 2.4, which the official evaluator's requirements name, and to 2.6, they are settled at once: False. The
99 recorded results hold three predictions with self loops, for which both give the recorded value.
"""


@dataclass(frozen=True)
class _State:
    """A partial edit: pairs (row, column) in order, (row, None) deleted, (None, column) inserted."""

    cost: float
    pairs: tuple[Pair, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    partners: dict[int, int | None] | None
    """See `_partners`; None if still to be found, for the decided pairs were not all of one assignment."""
    bound: float


@dataclass(frozen=True)
class _Side:
    """The nodes of one graph that a state leaves; [2, ...] are out-going and in-going edges, loops aside."""

    ends: Array
    """`[2, left, mapped]`: whether there is an edge to each mapped node, in the order of the pairs."""
    inside: Array
    """`[2, left]`: number of edges to one another."""
    decided: Array
    """`[left]`: number of edges to nodes that are mapped, deleted or inserted."""
    loops: Array
    """`[left]`: whether the node has a self loop."""

    @property
    def alone(self) -> Array:
        """`[left]`: cost of deleting or inserting the node, a half of the edges that another one shares."""
        cost: Array = 1 + self.decided + self.inside.sum(0) / 2 + self.loops
        return cost

    @property
    def edges(self) -> float:
        """Number of edges that are not settled."""
        return float(self.decided.sum() + self.inside.sum() / 2 + self.loops.sum())


def _loop_cost(row: _Side, column: _Side, of_row: Array, of_column: Array) -> Array:
    """`[rows, columns]`: what the loops of a pair cost at least, less than nothing if they save other edges.

    A loop that has no counterpart costs 1, and saves 1 as the counterpart of another edge of the other node. Where
    none is known to lack its own (`of_row`, `of_column`: how many are), making one so costs a half on either side.
    """
    import numpy as np

    lacks, other_lacks = of_row >= 1, of_column >= 1
    may, other_may = lacks | (row.inside.sum(0) > 0)[:, None], other_lacks | (column.inside.sum(0) > 0)
    of_row_only = np.where(other_lacks, -1, np.where(other_may, 0, 1))
    of_column_only = np.where(lacks, -1, np.where(may, 0, 1))
    of_both = np.where(lacks & other_lacks, -2, np.where(may & other_may, -1, 0))
    mine, others = row.loops[:, None], column.loops[None]
    return np.where(mine, np.where(others, of_both, of_row_only), np.where(others, of_column_only, 0))


class LoopSearch:
    """One search. `best` is the cost of the best edit found so far."""

    def __init__(self, problem: Problem, deadline: float) -> None:
        """`deadline` is a time of `time.monotonic`, after which no new state is opened."""
        import numpy as np

        self.problem, self.deadline = problem, deadline
        self.best = float("inf")
        self._graphs = [
            {(int(i), int(j)) for i, j in zip(*graph.nonzero(), strict=True)}
            for graph in (problem.rows, problem.columns)
        ]
        self._plain = [
            np.stack([graph, graph.T]) * (1.0 - np.eye(len(graph))) for graph in (problem.rows, problem.columns)
        ]
        """Each graph without its loops, `[out-going and in-going, nodes, nodes]`."""
        self._first_waits = FIRST_WAITS and all(self._graphs)
        m, n = problem.costs.shape
        self._never = float(problem.costs.sum()) + m + n + 1

    def run(self) -> float:
        """Search; returns a lower bound, which is `best` unless the deadline has passed."""
        m, n = self.problem.costs.shape
        rows, columns = tuple(range(m)), tuple(range(n))
        start = time.monotonic()
        strict = Search(self.problem if m <= n else self.problem.transposed(), start + (self.deadline - start) / 4)
        strict.run()
        self.best = strict.best
        left = self._expand(_State(0.0, (), rows, columns, None, 0.0))
        return min(self.best, left)  # not in one expression: `best` is what the search leaves

    def _expand(self, state: _State) -> float:
        """Search all below a state; returns the lowest bound among what is left unsearched, or infinity."""
        if not state.rows and not state.columns:
            self.best = min(self.best, state.cost)
            return float("inf")
        if time.monotonic() > self.deadline:
            return state.bound
        left = float("inf")
        partners = self._partners(state.rows, state.columns) if state.partners is None else state.partners
        children = (self._child(state, partners, pair) for pair in self._choices(state, partners))
        for child in sorted(children, key=lambda child: child.bound):
            if child.bound > self.best - self.problem.step:
                break
            left = min(left, self._expand(child))
        return left

    def _choices(self, state: _State, partners: dict[int, int | None]) -> list[Pair]:
        """What networkx decides next: the first row's column, or its partner's row."""
        if not state.rows:
            return [(None, state.columns[0])]
        row = state.rows[0]
        if len(state.rows) > len(state.columns):
            return [(row, column) for column in (*state.columns, None)]
        return [(other, partners[row]) for other in (*state.rows, None)]

    def _child(self, state: _State, partners: dict[int, int | None], pair: Pair) -> _State:
        row, column = pair
        rows = tuple(other for other in state.rows if other != row)
        columns = tuple(other for other in state.columns if other != column)
        keeps = row is not None and partners[row] == column
        nodes = 1.0 if row is None or column is None else float(self.problem.costs[row, column])
        cost = state.cost + nodes + self._edges(state.pairs, pair)
        pairs = (*state.pairs, pair)
        bound = cost + self._remaining(pairs, rows, columns)
        return _State(cost, pairs, rows, columns, partners if keeps else None, bound)

    def _edges(self, before: tuple[Pair, ...], pair: Pair) -> int:
        """Cost of the edges that are settled by one more pair: those that find no counterpart among themselves."""
        if not before and self._first_waits:
            return 0
        loops, others = [0, 0], [0, 0]
        for side, graph in enumerate(self._graphs):
            node = pair[side]
            waiting = before[0][side] if len(before) == 1 and self._first_waits else None
            loops[side] = ((node, node) in graph) + ((waiting, waiting) in graph)
            others[side] = sum(((p[side], node) in graph) + ((node, p[side]) in graph) for p in before)
        same = sum(
            ((p[0], pair[0]) in self._graphs[0] and (p[1], pair[1]) in self._graphs[1])
            + ((pair[0], p[0]) in self._graphs[0] and (pair[1], p[1]) in self._graphs[1])
            for p in before
        )
        free = [others[side] - same + loops[side] for side in (0, 1)]
        return sum(free) - 2 * min(*free, sum(loops))

    def _remaining(self, pairs: tuple[Pair, ...], rows: tuple[int, ...], columns: tuple[int, ...]) -> float:
        """Lower bound of the cost of what is left: the higher of two.

        That of `ged_search` with `_loop_cost` in each pair; and that of the nodes alone and the numbers of edges.
        """
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        sides = [self._side(side, pairs, left) for side, left in enumerate((rows, columns))]
        row, column = sides
        common = (row.ends @ column.ends.transpose(0, 2, 1)).sum(0)
        # Edges of either node that find no counterpart, as far as is known: [rows, columns].
        surplus = row.inside[:, :, None] - column.inside[:, None]
        known = [
            row.decided[:, None] - common + np.maximum(surplus, 0).sum(0),
            column.decided - common + np.maximum(-surplus, 0).sum(0),
        ]
        costs = self.problem.costs[np.ix_(rows, columns)]
        saved = costs + row.decided[:, None] + column.decided - 2 * common + np.abs(surplus).sum(0) / 2
        saved += _loop_cost(row, column, *known) - row.alone[:, None] - column.alone
        total = row.alone.sum() + column.alone.sum() + saved[linear_sum_assignment(saved)].sum()
        waiting: tuple[Pair, ...] = pairs if len(pairs) == 1 and self._first_waits else ()
        loops = [sum((pair[side], pair[side]) in graph for pair in waiting) for side, graph in enumerate(self._graphs)]
        edges = [half.edges + waits for half, waits in zip(sides, loops, strict=True)]
        alike = len(rows) + len(columns) + (costs - 2)[linear_sum_assignment(costs - 2)].sum()
        return max(float(total - sum(loops)), float(alike + abs(edges[0] - edges[1])))

    def _side(self, side: int, pairs: tuple[Pair, ...], left: tuple[int, ...]) -> _Side:
        """What the bound needs to know of one graph."""
        nodes = list(left)
        mapped = [node for pair in pairs if None not in pair and (node := pair[side]) is not None]
        gone = [node for pair in pairs if None in pair and (node := pair[side]) is not None]
        edges = self._plain[side][:, nodes]
        loops = (self.problem.rows, self.problem.columns)[side].diagonal()[nodes]
        ends = edges[:, :, mapped]
        return _Side(ends, edges[:, :, nodes].sum(2), ends.sum((0, 2)) + edges[:, :, gone].sum((0, 2)), loops)

    def _partners(self, rows: tuple[int, ...], columns: tuple[int, ...]) -> dict[int, int | None]:
        """Row -> column, or None for its deletion, in the cheapest assignment by the costs of nodes alone.

        Where several are as cheap, the one that networkx takes: it is the same call of the same function.
        """
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        m, n = len(rows), len(columns)
        matrix: Array = np.zeros((m + n, m + n))
        matrix[:m, :n] = self.problem.costs[np.ix_(rows, columns)]
        matrix[:m, n:] = np.where(np.eye(m, dtype=bool), 1.0, self._never)
        matrix[m:, :n] = np.where(np.eye(n, dtype=bool), 1.0, self._never)
        chosen = linear_sum_assignment(matrix)[1][:m]
        return {row: columns[at] if at < n else None for row, at in zip(rows, chosen, strict=True)}
