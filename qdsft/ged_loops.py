"""Graph edit distance of graphs with self loops, as networkx counts it and therefore BREAK's official evaluator.

networkx (3.1 to 3.6) settles edges node pair by node pair, in the order in which its search decides them, and takes a
self loop for the counterpart of ANY edge that is settled in the same step: the loop of a step that refers to
itself may stand for a reference to another step. The value depends on that order, and so on which graph is the first.
This search goes through the pairs in networkx's order, and adds bounds, which leave the least cost as it is: the
cost where loops correspond to loops only is never lower.
The edges of the first pair wait for the second one, if both graphs have edges.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdsft.ged_search import Problem, Search

if TYPE_CHECKING:
    from qdsft.ged_search import Array

Pair = tuple[int | None, int | None]


@dataclass(frozen=True)
class _State:
    """A partial edit: pairs (row, column) in order, (row, None) deleted, (None, column) inserted."""

    cost: float
    pairs: tuple[Pair, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    partners: dict[int, int | None]
    """Row -> column of the assignment, by substitution costs alone, of the rows and columns left; None: deleted."""
    bound: float


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
        self._first_waits = all(self._graphs)
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
        left = self._expand(_State(0.0, (), rows, columns, self._partners(rows, columns), 0.0))
        return min(self.best, left)  # not in one expression: `best` is what the search leaves

    def _expand(self, state: _State) -> float:
        """Search all below a state; returns the lowest bound among what is left unsearched, or infinity."""
        if not state.rows and not state.columns:
            self.best = min(self.best, state.cost)
            return float("inf")
        if time.monotonic() > self.deadline:
            return state.bound
        left = float("inf")
        children = (self._child(state, pair) for pair in self._choices(state))
        for child in sorted(children, key=lambda child: child.bound):
            if child.bound > self.best - self.problem.step:
                break
            left = min(left, self._expand(child))
        return left

    def _choices(self, state: _State) -> list[Pair]:
        """What networkx decides next: the first row's column, or its partner's row."""
        if not state.rows:
            return [(None, state.columns[0])]
        row = state.rows[0]
        if len(state.rows) > len(state.columns):
            return [(row, column) for column in (*state.columns, None)]
        return [(other, state.partners[row]) for other in (*state.rows, None)]

    def _child(self, state: _State, pair: Pair) -> _State:
        row, column = pair
        rows = tuple(other for other in state.rows if other != row)
        columns = tuple(other for other in state.columns if other != column)
        keeps = row is not None and state.partners[row] == column
        partners = state.partners if keeps else self._partners(rows, columns)
        nodes = 1.0 if row is None or column is None else float(self.problem.costs[row, column])
        cost = state.cost + nodes + self._edges(state.pairs, pair)
        pairs = (*state.pairs, pair)
        return _State(cost, pairs, rows, columns, partners, cost + self._remaining(pairs, rows, columns))

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
        """Lower bound of the cost of what is left.

        That of `ged_search` without the loops; each of these then saves one at most, by being the counterpart
        of an edge that is settled together with it.
        """
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        ends, inside, lost, alone = zip(
            *(self._half(side, pairs, (rows, columns)[side]) for side in (0, 1)), strict=True
        )
        differs = ends[0].sum(2)[:, :, None] + ends[1].sum(2)[:, None] - 2 * ends[0] @ ends[1].transpose(0, 2, 1)
        differs += np.abs(inside[0][:, :, None] - inside[1][:, None]) / 2
        saved = self.problem.costs[np.ix_(rows, columns)] + lost[0][:, None] + lost[1] + differs.sum(0)
        saved -= alone[0][:, None] + alone[1]
        total = float(alone[0].sum() + alone[1].sum() + saved[linear_sum_assignment(saved)].sum())
        waiting: tuple[Pair, ...] = pairs if len(pairs) == 1 and self._first_waits else ()
        loops = sum((node, node) in self._graphs[0] for node in (*rows, *(pair[0] for pair in waiting)))
        loops += sum((node, node) in self._graphs[1] for node in (*columns, *(pair[1] for pair in waiting)))
        return max(0.0, total - loops)

    def _half(self, side: int, pairs: tuple[Pair, ...], left: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
        """Of the nodes that are left in one graph, with [out-going, in-going] as the first axis where there is one:

        edges to each mapped node, in the order of `pairs`, `[2, left, mapped]`; number of edges to one another,
        `[2, left]`; number of edges to deleted or inserted nodes, `[left]`; cost of deleting or inserting, `[left]`.
        """
        nodes = list(left)
        mapped = [node for pair in pairs if None not in pair and (node := pair[side]) is not None]
        gone = [node for pair in pairs if None in pair and (node := pair[side]) is not None]
        edges = self._plain[side][:, nodes]
        ends, inside, lost = edges[:, :, mapped], edges[:, :, nodes].sum(2), edges[:, :, gone].sum((0, 2))
        return ends, inside, lost, 1 + lost + ends.sum((0, 2)) + inside.sum(0) / 2

    def _partners(self, rows: tuple[int, ...], columns: tuple[int, ...]) -> dict[int, int | None]:
        """The assignment of rows to columns or to deletion; where several cost the same, the one networkx takes."""
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        m, n = len(rows), len(columns)
        matrix: Array = np.zeros((m + n, m + n))
        matrix[:m, :n] = self.problem.costs[np.ix_(rows, columns)]
        matrix[:m, n:] = np.where(np.eye(m, dtype=bool), 1.0, self._never)
        matrix[m:, :n] = np.where(np.eye(n, dtype=bool), 1.0, self._never)
        chosen = linear_sum_assignment(matrix)[1][:m]
        return {row: columns[at] if at < n else None for row, at in zip(rows, chosen, strict=True)}
