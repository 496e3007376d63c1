"""Exact graph edit distance by depth-first branch and bound.

Every node of the smaller graph is mapped to one of the larger: as no substitution costs more than 1, it never
pays to delete a node and insert another. The lower bound of a partial map is a linear assignment of the nodes that
it leaves, in which a pair costs its substitution, its edges to mapped nodes that do not correspond, and half of the
difference of its numbers of other edges, out-going and in-going (Chang et al. 2020, "Speeding Up GED Verification
for Graph Similarity Search"). A self loop corresponds to a self loop only; `ged` has networkx's other view.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

EPSILON = 1e-10
"""Differences of cost below this are rounding."""
_FORBIDDEN = 1e6
"""Cost of a pair that an assignment must not use: more than all real costs together."""


@dataclass(frozen=True)
class Problem:
    """Two graphs, and what it costs to substitute the nodes of one by those of the other.

    `rows` and `columns` are adjacency matrices, bool `[m, m]` and `[n, n]`, true at [i, j] for an edge i -> j.
    `costs`, float `[m, n]`, lies in 0..1. To delete or to insert a node or an edge costs 1.
    """

    rows: Array
    columns: Array
    costs: Array

    @property
    def has_loops(self) -> bool:
        """True if a node of either graph has an edge to itself."""
        return bool(self.rows.diagonal().any() or self.columns.diagonal().any())

    @property
    def step(self) -> float:
        """The smallest possible difference between two costs.

        Without substitution costs by 2, less rounding: numbers of nodes are given, and an edge kept saves two.
        """
        return EPSILON if self.costs.any() else 2 - EPSILON

    def transposed(self) -> Problem:
        """Return the problem with the two graphs exchanged."""
        return Problem(self.columns, self.rows, self.costs.T)


@dataclass(frozen=True)
class _State:
    """A partial map; matrices and vectors are over the nodes that it leaves."""

    fixed: float
    """Cost of the mapped nodes and of the edges among them."""
    rows: Array
    columns: Array
    pairs: Array
    """`[rows, columns]`: cost of the substitution, and of the pair's edges to mapped nodes."""
    inserted: Array
    """`[columns]`: cost of the insertion, and of the column's edges to mapped nodes."""
    mapped: tuple[tuple[int, int], ...]
    bound: float


class Search:
    """One search. `best` is the cost of the best map found so far."""

    def __init__(self, problem: Problem, deadline: float) -> None:
        """`problem` with m <= n; `deadline` is a time of `time.monotonic`, after which no new state is opened."""
        import numpy as np

        self.problem, self.deadline = problem, deadline
        self.best = float("inf")
        self._rows, self._columns = (
            graph & ~np.eye(len(graph), dtype=bool) for graph in (problem.rows, problem.columns)
        )
        # Columns of equal edges and costs are interchangeable: one of them is tried.
        keys = [
            (column.tobytes(), row.tobytes(), bool(loop), cost.tobytes())
            for column, row, loop, cost in zip(
                self._columns.T, self._columns, problem.columns.diagonal(), problem.costs.T, strict=True
            )
        ]
        self._kind = np.array([keys.index(key) for key in keys], dtype=int)

    def run(self) -> float:
        """Search, and return a lower bound, which is `best` unless the deadline has passed."""
        import numpy as np

        m, n = self.problem.costs.shape
        if m == 0:
            self.best = float(n + self.problem.columns.sum())
            return self.best
        row_loops, column_loops = self.problem.rows.diagonal(), self.problem.columns.diagonal()
        pairs = self.problem.costs + (row_loops[:, None] != column_loops)
        left = self._expand(_State(0.0, np.arange(m), np.arange(n), pairs, 1.0 + column_loops, (), 0.0))
        return min(self.best, left)  # not in one expression: `best` is what the search leaves

    def _expand(self, state: _State) -> float:
        """Search below a state, and return the lowest bound of the states left unsearched, or infinity."""
        if time.monotonic() > self.deadline and self.best < float("inf"):
            return state.bound
        left = float("inf")
        for child in self._children(state, self._next_row(state)):
            if child.bound > self.best - self.problem.step:
                break
            if len(child.rows):
                left = min(left, self._expand(child))
        return left

    def _next_row(self, state: _State) -> int:
        """Return the position of the row with the most edges to unmapped rows; ties: with the most edges."""
        graph = self._rows
        both = graph[state.rows].astype(int) + graph[:, state.rows].T
        return int((both[:, state.rows].sum(1) * len(graph) * 2 + both.sum(1)).argmax())

    def _children(self, state: _State, row: int) -> list[_State]:
        """Return the states that map the row to one column each, best bound first, without hopeless ones."""
        import numpy as np
        from scipy.optimize import linear_sum_assignment

        graph, mapped_row = self._rows, state.rows[row]
        rows = state.rows[np.arange(len(state.rows)) != row]
        among, columns = graph[rows][:, rows], self._columns[state.columns][:, state.columns]
        # Axes are [choice of the column, remaining row, column]; the diagonal choice = column is to be ignored.
        differs = (graph[rows, mapped_row][:, None] != columns.T[:, None]).astype(float)
        differs += graph[mapped_row, rows][:, None] != columns[:, None]
        pairs = state.pairs[np.arange(len(state.rows)) != row] + differs
        inserted = state.inserted + columns + columns.T
        outgoing, incoming = columns.sum(1) - columns.T, columns.sum(0) - columns
        alone = inserted + (outgoing + incoming) / 2
        estimate = pairs - alone[:, None]
        estimate += np.abs(among.sum(1)[:, None] - outgoing[:, None]) / 2
        estimate += np.abs(among.sum(0)[:, None] - incoming[:, None]) / 2
        each = np.arange(len(state.columns))
        estimate[each, :, each] = _FORBIDDEN
        fixed = state.fixed + state.pairs[row]
        base = fixed + alone.sum(1) - alone[each, each]
        least = base + estimate.min(2).sum(1)
        children = []
        choices = np.unique(self._kind[state.columns], return_index=True)[1]
        for choice in choices[least[choices].argsort()]:
            if least[choice] > self.best - self.problem.step:
                break
            chosen = linear_sum_assignment(estimate[choice])
            bound = float(base[choice] + estimate[choice][chosen].sum())
            if bound > self.best - self.problem.step:
                continue
            mapped = (*state.mapped, (mapped_row, state.columns[choice]))
            self._try((*mapped, *zip(rows[chosen[0]], state.columns[chosen[1]], strict=True)))
            keep = each != choice
            rest = state.columns[keep], pairs[choice][:, keep], inserted[choice][keep]
            children.append(_State(float(fixed[choice]), rows, *rest, mapped, bound))
        return sorted(children, key=lambda child: child.bound)

    def _try(self, mapped: tuple[tuple[int, int], ...]) -> None:
        """Update `best` with a complete map."""
        problem = self.problem
        rows, columns = (list(side) for side in zip(*mapped, strict=True))
        kept = (problem.rows[rows][:, rows] & problem.columns[columns][:, columns]).sum()
        nodes = problem.costs[rows, columns].sum() + len(problem.columns) - len(columns)
        self.best = min(self.best, float(nodes + problem.rows.sum() + problem.columns.sum() - 2 * kept))
