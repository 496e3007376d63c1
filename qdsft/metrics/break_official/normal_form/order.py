"""The order of the nodes of the normal form: by level, then by label."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from qdsft.data.decomposition import reference_number
from qdsft.metrics.break_official.normal_form.graph import Graph, RewriteError
from qdsft.metrics.text_overlap import MARKED_REFERENCE

LONGEST_TEXT = 100_000
"""Characters of a text with its references replaced; "#1 and #1", "#2 and #2", ... doubles it with every step."""


def unwound(graph: Graph) -> dict[int, str]:
    """Return node number -> its label, with every reference replaced by the label of its node, recursively.

    Raises as `levels` does, and RewriteError if a label refers to a node that is not below its own, or if a text
    grows beyond LONGEST_TEXT.
    """
    texts: dict[int, str] = {}
    for number in (number for level in levels(graph) for number in level):
        texts[number] = _replaced(graph[number].final_label, texts)
        if len(texts[number]) > LONGEST_TEXT:
            raise RewriteError(f"node {number} is longer than {LONGEST_TEXT} characters without references")
    return texts


def renumber(graph: Graph) -> dict[int, str]:
    """Return number -> label, numbered from 1 level by level, equal labels merged, sorted within a level.

    A graph with a circle keeps its numbers; so do nodes that have no level, unless one with that number has. Raises
    RewriteError as `unwound` does.
    """
    try:
        found = levels(graph)
    except CycleError:
        return {number: node.final_label for number, node in graph.items()}
    for node in graph.values():
        node.label = node.final_label
    names: dict[int, str] = {}
    steps: list[str] = []
    for level in found:
        kept: dict[str, int] = {}
        for number in level:
            label = _replaced(graph[number].final_label, names)
            if kept.setdefault(label, number) != number:
                _merge(graph, number, kept[label])
        for label in sorted(kept):
            steps.append(label)
            names[kept[label]] = f"@@{len(steps)}@@"
    without = {number: node.final_label for number, node in graph.items() if number not in names}
    return without | dict(enumerate(steps, start=1))


def levels(graph: Graph) -> list[list[int]]:
    """Return the numbers of nodes by level, in the order in which they are reached from level 0.

    The level of a node is 0 if it refers to none, else one more than the highest it refers to. Nodes from which
    none of level 0 can be reached have none. Raises CycleError for a circle among the others.
    """
    # A reference to 0 is no reference to the evaluator here; it dangles, and so the level comes out right even so.
    reached = dict.fromkeys(number for number, node in graph.items() if not any(node.successors))
    queue = list(reached)
    for number in queue:
        new = [user for user in graph[number].users if user not in reached]
        reached |= dict.fromkeys(new)
        queue += new
    level: dict[int, int] = {}
    below = {number: [other for other in graph[number].successors if other in reached] for number in reached}
    for number in TopologicalSorter(below).static_order():
        level[number] = max((level[other] + 1 for other in below[number]), default=0)
    found: list[list[int]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for number in reached:
        found[level[number]].append(number)
    return found


def _merge(graph: Graph, number: int, kept: int) -> None:
    for user in list(graph[number].users):
        graph.connect(user, kept)
        graph[user].label = graph[user].final_label.replace(f"@@{number}@@", f"@@{kept}@@")
    graph.remove(number)


def _replaced(label: str, replacements: dict[int, str]) -> str:
    """Return the label with its references replaced."""
    missing = [digits for digits in MARKED_REFERENCE.findall(label) if reference_number(digits) not in replacements]
    if missing:
        raise RewriteError(f"{label!r} refers to {missing[0]}, which is not below it")
    return MARKED_REFERENCE.sub(lambda match: replacements[reference_number(match[1])], label)
