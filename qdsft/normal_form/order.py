"""The order of the normal form: filters that follow one another, then all nodes."""

from __future__ import annotations

from collections.abc import Iterator

from qdsft.normal_form.graph import MARKED_REFERENCE, Graph, Operation, RewriteError, is_cyclic


def reorder_filters(graph: Graph) -> None:
    """Sort what is filtered by along each chain of filters: big blue cubes and blue big cubes become one.

    A chain is FILTERs without meta, each the first argument of the next, which is the only one to refer to it.
    The sort key is the text of the second argument with its references replaced by what they refer to. Raises
    RewriteError if that never ends.
    """
    users: dict[int, list[int]] = {number: [] for number in graph}
    for number, node in graph.items():
        for successor in node.successors:
            users[successor].append(number)
    for top in [number for number in graph if not _inner(graph, users, number)]:
        chain = list(_chain(graph, users, top))
        by = sorted((filter_.arguments[1] for filter_ in chain), key=lambda number: unwound(graph, number))
        for filter_, second in zip(chain, by, strict=True):
            filter_.arguments = (filter_.arguments[0], second)
    for node in graph.values():
        if node.operation:
            node.refresh_successors()


def unwound(graph: Graph, number: int, inside: frozenset[int] = frozenset()) -> str:
    """The label of a node with every reference in it replaced by the label of its node, and so on.

    Raises RewriteError for a node that refers to itself.
    """
    if number in inside:
        raise RewriteError(f"node {number} refers to itself")
    if number not in graph:
        raise RewriteError(f"node {number} is referred to and does not exist")
    return MARKED_REFERENCE.sub(
        lambda match: unwound(graph, int(match[1]), inside | {number}), graph[number].label
    )


def renumber(graph: Graph) -> list[str]:
    """The labels of the nodes as steps 1..n: level by level, equal ones merged, sorted within a level.

    The level of a node is 0 if it refers to none, else one more than the highest it refers to. A graph with a
    circle has no levels and keeps its numbers. Raises RewriteError if a label refers to a node of no lower level.
    """
    if is_cyclic(graph):
        return [graph[number].label for number in sorted(graph)]
    new: dict[int, int] = {}
    steps: list[str] = []
    for level in levels(graph):
        labels = {number: _renumbered(graph[number].label, new) for number in level}
        merged = sorted(set(labels.values()))
        new |= {number: len(steps) + 1 + merged.index(label) for number, label in labels.items()}
        steps += merged
    return steps


def levels(graph: Graph) -> list[list[int]]:
    """The numbers of the nodes of an acyclic graph by level, from 0."""
    found: list[list[int]] = []
    placed: set[int] = set()
    while len(placed) < len(graph):
        found.append([n for n, node in graph.items() if n not in placed and node.successors <= placed])
        placed.update(found[-1])
    return found


def _renumbered(label: str, new: dict[int, int]) -> str:
    missing = [digits for digits in MARKED_REFERENCE.findall(label) if int(digits) not in new]
    if missing:
        raise RewriteError(f"{label!r} refers to {missing[0]}, which has no number yet")
    return MARKED_REFERENCE.sub(lambda match: f"@@{new[int(match[1])]}@@", label)


def _filter(graph: Graph, number: int) -> Operation | None:
    operation = graph[number].operation
    return operation if operation and operation.name == "FILTER" and not operation.meta else None


def _inner(graph: Graph, users: dict[int, list[int]], number: int) -> bool:
    """Whether this is a filter that some other filter continues."""
    if not _filter(graph, number) or len(users[number]) != 1:
        return False
    user = _filter(graph, users[number][0])
    return user is not None and user.arguments[0] == number


def _chain(graph: Graph, users: dict[int, list[int]], top: int) -> Iterator[Operation]:
    """The filters from the last one, which is applied on the outside, to the first."""
    found = _filter(graph, top)
    while found:
        yield found
        inner = found.arguments[0]
        found = _filter(graph, inner) if _inner(graph, users, inner) else None
