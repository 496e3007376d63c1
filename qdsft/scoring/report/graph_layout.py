"""Places of the boxes and arrows of a decomposition's graph, computed by Graphviz.

Graphviz gets numbers of steps and sizes of boxes, never the text of a step: no text can become DOT, and the layout
does not depend on the fonts of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from threading import Lock

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.text import text_width, wrap

WIDTH = 340.0
SIZE, LINE = 12.0, 16.0
PADDING, NUMBER_WIDTH = 9.0, 23.0
MOST_STEPS = 24
"""Further steps are not drawn: models that do not stop write hundreds."""
MOST_LINES = 6
PER_ROW = 2
"""Boxes side by side: more would leave their text no room on a phone."""

_NARROWEST, _WIDEST, _GAP_X, _GAP_Y, _MARGIN = 96.0, 270.0, 14.0, 32.0, 3.0
_MISSING_HEIGHT, _LOOP = 17.0, 18.0
_GRAPHVIZ = Lock()
"""Graphviz has global state, so only one thread at a time may use it."""

Point = tuple[float, float]


@dataclass
class Box:
    """The box of a step, or of the missing references of a step; x, y is the upper left corner."""

    step: int
    width: float
    height: float
    lines: list[str]
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True)
class Arrow:
    """A reference as cubic Bezier curves: a start, then three points for each curve. The tip is beyond the last."""

    source: int | None
    """The step that is used; None for the arrow from a box of missing references."""
    target: int
    points: list[Point]
    tip: Point


@dataclass
class Layout:
    """A graph, in units of about a CSS pixel."""

    boxes: dict[int, Box]
    missing: dict[int, list[int]]
    """Step -> its references to no step, or to a step that is not drawn."""
    missing_boxes: dict[int, Box]
    left_out: int
    """Steps beyond MOST_STEPS."""
    arrows: list[Arrow] = field(default_factory=list)
    width: float = WIDTH
    height: float = 0.0


def lay_out(decomposition: Decomposition) -> Layout:
    """Place up to MOST_STEPS steps, each below the steps that it refers to, and the arrows between them."""
    steps = decomposition.steps[:MOST_STEPS]
    edges = [edge for edge in decomposition.edges if edge[1] <= len(steps)]
    drawn = [edge for edge in edges if 1 <= edge[0] <= len(steps)]
    missing: dict[int, list[int]] = {}
    for source, target in edges:
        if not 1 <= source <= len(steps):
            missing.setdefault(target, []).append(source)
    rows = rows_of(len(steps), drawn)
    boxes: dict[int, Box] = {}
    for row in rows:
        loops = sum((step, step) in drawn for step in row)
        room = (WIDTH - 2 * _MARGIN - _GAP_X * (len(row) - 1) - _LOOP * loops) / len(row)
        boxes |= {step: _box(step, steps[step - 1], min(_WIDEST, room)) for step in row}
    missing_boxes = {step: _missing_box(step, sources) for step, sources in missing.items()}
    layout = Layout(boxes, missing, missing_boxes, left_out=len(decomposition.steps) - len(steps))
    if steps:
        with _GRAPHVIZ:
            _place(layout, rows, drawn)
    return layout


def rows_of(steps: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the steps of each row. A step is below the earlier steps that it refers to, in the first row with room."""
    rows: list[list[int]] = []
    row_of: dict[int, int] = {}
    for step in range(1, steps + 1):
        first = max((row_of[source] + 1 for source, target in edges if target == step > source), default=0)
        row_of[step] = next(row for row in count(first) if row == len(rows) or len(rows[row]) < PER_ROW)
        if row_of[step] == len(rows):
            rows.append([])
        rows[row_of[step]].append(step)
    return rows


def _box(step: int, text: str, room: float) -> Box:
    lines = wrap(text, room - 2 * PADDING - NUMBER_WIDTH, SIZE, MOST_LINES)
    width = max(text_width(line, SIZE) for line in lines) + 2 * PADDING + NUMBER_WIDTH
    return Box(step, max(_NARROWEST, width), len(lines) * LINE + 2 * PADDING, lines)


def _missing_box(step: int, sources: Sequence[int]) -> Box:
    text = wrap(", ".join(f"#{source}" for source in sources), 60, SIZE - 1, 1)[0]
    return Box(step, text_width(text, SIZE - 1) + 10, _MISSING_HEIGHT, [text])


def _place(layout: Layout, rows: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> None:
    """Set the places of all boxes, the arrows, and the size of the graph."""
    from pygraphviz import AGraph

    nodes = {f"s{step}": box for step, box in layout.boxes.items()}
    nodes |= {f"m{step}": box for step, box in layout.missing_boxes.items()}
    graph = AGraph(directed=True, strict=False, dpi=72, nodesep=_GAP_X / 72, ranksep=_GAP_Y / 72)
    graph.node_attr.update(shape="box", fixedsize="true", label="")
    graph.edge_attr.update(arrowsize=0.7)
    for name, box in nodes.items():
        graph.add_node(name, width=box.width / 72, height=box.height / 72)
    for row in rows:
        graph.add_subgraph([f"s{step}" for step in row], rank="same")
    for above, below in pairwise(rows):
        graph.add_edge(f"s{above[0]}", f"s{below[0]}", key="row", style="invis", weight=0)
    for used, user in edges:
        # A reference to a later step must not move that step up.
        graph.add_edge(f"s{used}", f"s{user}", key="arrow", constraint="true" if used < user else "false")
    for step in layout.missing_boxes:
        graph.add_edge(f"m{step}", f"s{step}", key="arrow", weight=9)
    graph.layout(prog="dot")
    left, bottom, right, top = _numbers(graph.graph_attr["bb"])
    layout.width, layout.height = max(WIDTH, right - left + 2 * _MARGIN), top - bottom + 2 * _MARGIN

    def point(x: float, y: float) -> Point:
        return (x - (left + right - layout.width) / 2, top + _MARGIN - y)

    for name, box in nodes.items():
        x, y = point(*_numbers(graph.get_node(name).attr["pos"]))
        box.x, box.y = x - box.width / 2, y - box.height / 2
    references: list[tuple[int | None, int]] = [*edges, *((None, step) for step in layout.missing_boxes)]
    for source, target in references:
        start = f"m{target}" if source is None else f"s{source}"
        # "e,x,y" is the tip. A spline of four points or more follows.
        tip, *spline = graph.get_edge(start, f"s{target}", key="arrow").attr["pos"].removeprefix("e,").split()
        points = [point(*_numbers(one)) for one in spline]
        layout.arrows.append(Arrow(source, target, points, point(*_numbers(tip))))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
