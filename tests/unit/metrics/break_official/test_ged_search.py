"""The search: its value by brute force over all maps, and its bounds when it is cut short."""

from __future__ import annotations

import random
import time
from itertools import permutations

import numpy
import pytest

from qdsft.metrics.break_official.ged_search import Problem, Search


def random_problem(chance: random.Random, *, costs: bool) -> Problem:
    m = chance.randint(1, 4)
    n = chance.randint(m, 5)
    rows, columns = (
        numpy.array([[i != j and chance.random() < 0.4 for j in range(size)] for i in range(size)], dtype=bool)
        for size in (m, n)
    )
    values = [[chance.choice((0.0, 0.25, 1.0)) if costs else 0.0 for _ in range(n)] for _ in range(m)]
    return Problem(rows, columns, numpy.array(values))


def brute_force(problem: Problem) -> float:
    """The least cost over every map of the rows to different columns."""
    m, n = problem.costs.shape
    found = []
    for columns in permutations(range(n), m):
        kept = sum(problem.rows[i, j] and problem.columns[columns[i], columns[j]] for i in range(m) for j in range(m))
        nodes = sum(problem.costs[i, columns[i]] for i in range(m)) + n - m
        found.append(float(nodes + problem.rows.sum() + problem.columns.sum() - 2 * kept))
    return min(found)


@pytest.mark.parametrize("costs", [False, True])
def test_the_best_map_is_found(costs: bool) -> None:
    chance = random.Random(3)
    for _ in range(80):
        problem = random_problem(chance, costs=costs)
        search = Search(problem, time.monotonic() + 60)
        assert search.run() == search.best == pytest.approx(brute_force(problem), abs=1e-9)


def test_a_search_that_is_cut_short_has_a_lower_bound() -> None:
    chance = random.Random(4)
    problem = random_problem(chance, costs=True)
    exact = brute_force(problem)
    search = Search(problem, time.monotonic() - 1)
    assert search.run() <= exact + 1e-9 <= search.best + 2e-9


def test_no_rows_cost_every_column_and_edge() -> None:
    edges = numpy.array([[False, True], [False, False]])
    problem = Problem(numpy.zeros((0, 0), dtype=bool), edges, numpy.zeros((0, 2)))
    assert Search(problem, time.monotonic() + 1).run() == 3.0


def test_properties_of_a_problem() -> None:
    loop = numpy.array([[True]])
    plain = numpy.array([[False]])
    problem = Problem(loop, plain, numpy.array([[0.5]]))
    assert problem.has_loops and problem.transposed().has_loops and not Problem(plain, plain, problem.costs).has_loops
    assert problem.step < 1e-9 < Problem(loop, plain, numpy.array([[0.0]])).step < 2
    assert Search(problem, time.monotonic() + 1).run() == 1.5  # a self loop corresponds to a self loop only
