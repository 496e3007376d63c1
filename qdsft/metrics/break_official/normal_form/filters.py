"""Sort filters that follow one another: big blue cubes and blue big cubes become equal."""

from __future__ import annotations

import re
from graphlib import CycleError

from qdsft.data.decomposition import reference_number
from qdsft.metrics.break_official.normal_form.graph import Graph, RewriteError
from qdsft.metrics.break_official.normal_form.order import unwound
from qdsft.metrics.text_overlap import MARKED_REFERENCE

_ARGUMENTS = re.compile(r".*\((.*)\)")


class _NoChain(ValueError):
    """Filters in a circle, or used by a node without two arguments; they are left unchanged."""


def reorder_filters(graph: Graph) -> None:
    """Sort every chain of filters by their conditions, and correct the labels and edges of its users.

    A chain is of FILTERs without meta, each the first argument of the next, which alone refers to it. Conditions
    are compared by their text with every reference replaced by what it refers to. Which filters continue in a chain
    is settled once, before the first chain is sorted; all else is read from the graph as the chains before have
    left it. Raises RewriteError where the evaluator fails.
    """
    filters = [number for number, node in graph.items() if node.is_filter]
    inner = dict.fromkeys(number for number in filters if _is_inner(graph, number))
    done: set[int] = set()
    for number in inner:
        if number in done:
            continue
        done.add(number)
        try:
            chain = _chain(graph, _first(graph, number, inner), inner, len(filters))
            done.update(chain)
            _sort(graph, chain)
        except (_NoChain, CycleError):
            continue


def _is_inner(graph: Graph, number: int) -> bool:
    """Return True if the only reference to this filter is the first argument of another filter."""
    users = list(graph[number].users)
    return len(users) == 1 and graph[users[0]].is_filter and _filtered(graph, users[0]) == number


def _first(graph: Graph, number: int, inner: dict[int, None]) -> int:
    for _ in inner:
        below = _filtered(graph, number)
        if below == number:
            break
        if below not in inner:
            return number
        number = below
    raise _NoChain


def _chain(graph: Graph, first: int, inner: dict[int, None], most: int) -> list[int]:
    chain = [first]
    while chain[-1] in inner:
        users = list(graph[chain[-1]].users)
        if not users:
            raise RewriteError(f"nothing refers to {chain[-1]} any more")
        if users[0] in chain or len(chain) == most:
            raise _NoChain
        chain.append(users[0])
    return chain


def _sort(graph: Graph, chain: list[int]) -> None:
    """Raises CycleError for a graph with a circle, before anything is changed, else as `reorder_filters` does."""
    texts = unwound(graph)

    def condition(number: int) -> str:
        found = texts.get(_number(_arguments(graph, number)[1]))
        if found is None:
            raise RewriteError(f"the condition of {number} has no level")
        return found

    ordered = sorted(chain, key=condition)
    below = _filtered(graph, chain[0])
    users = list(graph[chain[-1]].users)
    for number, other in zip(chain, [below, *chain[:-1]], strict=True):
        graph.disconnect(number, other)
    for user in users:
        graph.disconnect(user, chain[-1])
    for number, other in zip(ordered, [below, *ordered[:-1]], strict=True):
        _replace(graph, number, _arguments(graph, number)[0], other)
    for user in users:
        _replace(graph, user, f"@@{chain[-1]}@@", ordered[-1])


def _replace(graph: Graph, number: int, reference: str, other: int) -> None:
    node = graph[number]
    node.label = node.final_label.replace(reference, f"@@{other}@@")
    graph.connect(number, other)


def _filtered(graph: Graph, number: int) -> int:
    return _number(_arguments(graph, number)[0])


def _arguments(graph: Graph, number: int) -> tuple[str, str]:
    """Return the two arguments in a label; earlier changes may have left another kind of label."""
    match = _ARGUMENTS.match(graph[number].final_label)
    if match is None:
        raise RewriteError(f"{number} has no arguments")
    arguments = match[1].split(",")
    if len(arguments) != 2:
        raise _NoChain
    if not MARKED_REFERENCE.fullmatch(arguments[0]):
        raise RewriteError(f"{arguments[0]} is no reference")
    return arguments[0], arguments[1]


def _number(reference: str) -> int:
    return reference_number(reference.strip("@"))
