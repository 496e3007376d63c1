"""The order of the normal form: of filters that follow one another, then of all nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from qdsft.metrics import MARKED_REFERENCE
from qdsft.metrics.normal_form.graph import Graph, Operation, RewriteError

LONGEST_TEXT = 10_000
"""Characters of a text with its references replaced; "#1 and #1", "#2 and #2", ... doubles it with every step."""


def ordered_steps(graph: Graph) -> list[str]:
    """The labels of the nodes as steps 1..n, filters and nodes in the order of the normal form.

    A graph with a circle has no such order; its labels come by the numbers they have. Raises RewriteError if a
    label refers to a node that is none of its node's successors, or if a text grows beyond LONGEST_TEXT.
    """
    try:
        reorder_filters(graph)
        return renumber(graph)
    except CycleError:
        return [graph[number].label for number in sorted(graph)]


def reorder_filters(graph: Graph) -> None:
    """Sort the conditions along each chain of filters: big blue cubes and blue big cubes become one.

    A chain is of FILTERs without meta, each the first argument of the next, which alone refers to it. Conditions
    are sorted by their text with every reference replaced by what it refers to. Raises as `unwound` does.
    """
    texts = unwound(graph)
    users: dict[int, list[int]] = {number: [] for number in graph}
    for number, node in graph.items():
        for successor in node.successors:
            users[successor].append(number)
    for top in [number for number in graph if not _is_continued(graph, users, number)]:
        chain = list(_chain(graph, users, top))
        conditions = sorted((operation.arguments[1] for operation in chain), key=lambda number: texts[number])
        for operation, condition in zip(chain, conditions, strict=True):
            operation.arguments = (operation.arguments[0], condition)
    for node in graph.values():
        if node.operation:
            node.refresh_successors()


def unwound(graph: Graph) -> dict[int, str]:
    """Node number -> its label with every reference replaced by the label of its node, and so on.

    Raises CycleError for a graph with a circle, else as `ordered_steps` does.
    """
    texts: dict[int, str] = {}
    for number in _successors_first(graph):
        texts[number] = _replaced(graph[number].label, texts)
        if len(texts[number]) > LONGEST_TEXT:
            raise RewriteError(f"node {number} is longer than {LONGEST_TEXT} characters without references")
    return texts


def renumber(graph: Graph) -> list[str]:
    """The labels as steps 1..n: level by level, equal ones merged, sorted within a level.

    The level of a node is 0 if it refers to none, else one more than the highest it refers to. Raises CycleError
    for a graph with a circle, else as `ordered_steps` does.
    """
    names: dict[int, str] = {}
    steps: list[str] = []
    for level in levels(graph):
        labels = {number: _replaced(graph[number].label, names) for number in level}
        merged = {label: place for place, label in enumerate(sorted(set(labels.values())), start=len(steps) + 1)}
        names |= {number: f"@@{merged[label]}@@" for number, label in labels.items()}
        steps += merged
    return steps


def levels(graph: Graph) -> list[list[int]]:
    """The numbers of the nodes of an acyclic graph by level, from 0. Raises CycleError for any other."""
    level: dict[int, int] = {}
    found: list[list[int]] = []
    for number in _successors_first(graph):
        level[number] = max((level[successor] + 1 for successor in graph[number].successors), default=0)
        if level[number] == len(found):
            found.append([])
        found[level[number]].append(number)
    return found


def _successors_first(graph: Graph) -> Iterable[int]:
    return TopologicalSorter({number: node.successors for number, node in graph.items()}).static_order()


def _replaced(label: str, replacements: dict[int, str]) -> str:
    """The label with its references replaced."""
    missing = [digits for digits in MARKED_REFERENCE.findall(label) if int(digits) not in replacements]
    if missing:
        raise RewriteError(f"{label!r} refers to {missing[0]}, which is not below it")
    return MARKED_REFERENCE.sub(lambda match: replacements[int(match[1])], label)


def _filter(graph: Graph, number: int) -> Operation | None:
    operation = graph[number].operation
    return operation if operation and operation.name == "FILTER" and not operation.meta else None


def _is_continued(graph: Graph, users: dict[int, list[int]], number: int) -> bool:
    """Whether this is a filter, and referred to by one other filter alone, as what that one filters."""
    if not _filter(graph, number) or len(users[number]) != 1:
        return False
    user = _filter(graph, users[number][0])
    return user is not None and user.arguments[0] == number != user.arguments[1]


def _chain(graph: Graph, users: dict[int, list[int]], top: int) -> Iterator[Operation]:
    """The filters of a chain from the last, which nothing continues, to the first."""
    found = _filter(graph, top)
    while found:
        yield found
        inner = found.arguments[0]
        found = _filter(graph, inner) if _is_continued(graph, users, inner) else None
