"""Where the boxes and arrows of a decomposition's graph go: geometry alone, top down, nothing on top of a box.

Steps stand in rows, each below the steps that it refers to. Arrows run down between the rows; one that passes a
row gets a lane of its own between the boxes there. References that no order of
answering satisfies are kept apart: those to a later step run back up in lanes right of all boxes; a step that refers
to itself gets room for a loop, and one that refers to no step room for a mark above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_rows import Item, References, ordered, rows_of, ways_up
from qdsft.scoring.report.svg import text_width, wrap

WIDTH = 340.0
SIZE = 12.0
LINE = 16.0
MOST_STEPS = 24
"""Further steps are not drawn: models that do not stop write hundreds."""
MOST_LINES = 6

_GAP_X, _GAP_Y = 14.0, 32.0
_LANE = 10.0
_STRAIGHT = 10.0
"""The end of an arrow, below which its curves have met."""
_PADDING = 9.0
NUMBER_WIDTH = 23.0
LOOP = 18.0
MISSING_HEIGHT = 30.0
_NARROWEST, _WIDEST = 96.0, 270.0

Point = tuple[float, float]
Piece = tuple[Point, ...]
"""Two points: a line. Four: a cubic Bezier curve."""


@dataclass
class Box:
    """One step; x, y is the upper left corner, in units of about a CSS pixel."""

    step: int
    x: float
    y: float
    width: float
    height: float
    lines: list[str]
    missing: list[int]
    """References to no step, or to one that is not drawn."""
    own: bool
    """Whether the step refers to itself; there is room for a loop, LOOP wide, right of the box."""

    @property
    def room(self) -> float:
        """Its width, with the loop."""
        return self.width + LOOP * self.own


@dataclass
class Arrow:
    """All arrows of one kind into one step, which may share a way."""

    target: int
    sources: list[int]
    pieces: list[Piece]
    tip: Point
    backward: bool
    """Whether these are references to later steps."""


@dataclass
class Layout:
    """A drawn graph; empty where there are no steps."""

    width: float
    height: float
    boxes: dict[int, Box]
    arrows: list[Arrow]
    left_out: int
    """Steps beyond MOST_STEPS."""


@dataclass
class _Row:
    items: list[Item]
    top: float = 0.0
    bottom: float = 0.0


def lay_out(decomposition: Decomposition) -> Layout:
    """Place up to MOST_STEPS steps and the arrows between them. Never raises."""
    steps = decomposition.steps[:MOST_STEPS]
    references = References.of(decomposition, len(steps))
    items = ordered(rows_of(len(steps), references.good), references.good)
    ways = ways_up(references.later, items)
    rows = list(map(_Row, items))
    margin = _LANE * (max(ways.values()) + 1) if ways else 0.0
    boxes: dict[int, Box] = {}
    width = max([WIDTH, *(_place(row, steps, references, boxes, WIDTH - margin) + margin for row in rows)])
    air = _GAP_Y if ways else 2.0
    lanes = _down(rows, boxes, width - margin, air)
    arrows = [_forward(target, sources, rows, boxes, lanes) for target, sources in references.good.items()]
    for target, sources in references.later.items():
        arrows.append(_backward(target, sources, rows, boxes, width - margin + _LANE * ways[target]))
    height = (rows[-1].bottom if rows else 0.0) + air
    return Layout(width, height, boxes, arrows, len(decomposition.steps) - len(steps))


def _place(row: _Row, steps: Sequence[str], references: References, boxes: dict[int, Box], room: float) -> float:
    """Make the boxes of a row as wide as their text needs; returns the width of the row."""
    numbers = [step for kind, step in row.items if kind == "box"]
    lanes = len(row.items) - len(numbers)
    loops = sum(step in references.own for step in numbers)
    between = lanes * _LANE + loops * LOOP + (len(row.items) - 1) * _GAP_X
    widest = max(_NARROWEST, min(_WIDEST, (room - between) / max(1, len(numbers))))
    for step in numbers:
        lines = wrap(steps[step - 1], widest - 2 * _PADDING - NUMBER_WIDTH, SIZE, MOST_LINES)
        width = max(text_width(line, SIZE) for line in lines) + 2 * _PADDING + NUMBER_WIDTH
        height = len(lines) * LINE + 2 * _PADDING
        missing, own = references.missing.get(step, []), step in references.own
        boxes[step] = Box(step, 0, 0, max(_NARROWEST, width), height, lines, missing, own)
    return sum(boxes[step].width for step in numbers) + between


def _down(rows: list[_Row], boxes: dict[int, Box], room: float, top: float) -> dict[tuple[int, int], float]:
    """Give rows and boxes their places; returns (row, target) -> x of the lane there."""
    lanes: dict[tuple[int, int], float] = {}
    for index, row in enumerate(rows):
        own = [boxes[step] for kind, step in row.items if kind == "box"]
        widths = [boxes[step].room if kind == "box" else _LANE for kind, step in row.items]
        x = (room - sum(widths) - _GAP_X * (len(widths) - 1)) / 2
        row.top = top
        box_top = top + (MISSING_HEIGHT if any(box.missing for box in own) else 0.0)
        for (kind, step), width in zip(row.items, widths, strict=True):
            if kind == "box":
                boxes[step].x, boxes[step].y = x, box_top
            else:
                lanes[index, step] = x + width / 2
            x += width + _GAP_X
        row.bottom = box_top + max(box.height for box in own)
        top = row.bottom + _GAP_Y
    return lanes


def _forward(
    target: int, sources: list[int], rows: list[_Row], boxes: dict[int, Box], lanes: dict[tuple[int, int], float]
) -> Arrow:
    """The way down into a step: one trunk through the rows between, which each source joins below its own row."""
    pieces: list[Piece] = []
    end = boxes[target]
    last = _row_of(target, rows)
    for index in range(min(_row_of(source, rows) for source in sources), last):
        row, below = rows[index], rows[index + 1]
        lane_below = lanes.get((index + 1, target))
        onward = (_middle(end), below.top - _STRAIGHT) if lane_below is None else (lane_below, below.top)
        for source in (boxes[step] for step in sources if ("box", step) in row.items):
            pieces.append(((_middle(source), source.y + source.height), (_middle(source), row.bottom)))
            pieces.append(_curve((_middle(source), row.bottom), onward))
        if (index, target) in lanes:
            lane = lanes[index, target]
            pieces.append(((lane, row.top), (lane, row.bottom)))
            pieces.append(_curve((lane, row.bottom), onward))
    pieces.append(((_middle(end), rows[last].top - _STRAIGHT), (_middle(end), end.y)))
    return Arrow(target, sources, pieces, (_middle(end), end.y), backward=False)


def _backward(target: int, sources: list[int], rows: list[_Row], boxes: dict[int, Box], lane: float) -> Arrow:
    """The way back up: out below each source, up in the lane right of everything, in from above the target."""
    end = boxes[target]
    tip = (end.x + end.width * 0.85, end.y)
    above = rows[_row_of(target, rows)].top - 9
    corners = [[(lane, above), (tip[0], above), tip]]
    for source in (boxes[step] for step in sources):
        x, below = source.x + source.width * 0.85, rows[_row_of(source.step, rows)].bottom + 9
        corners.append([(x, source.y + source.height), (x, below), (lane, below), (lane, above)])
    pieces: list[Piece] = [pair for way in corners for pair in pairwise(way)]
    return Arrow(target, sources, pieces, tip, backward=True)


def _curve(start: Point, end: Point) -> Piece:
    half = (start[1] + end[1]) / 2
    return (start, (start[0], half), (end[0], half), end)


def _middle(box: Box) -> float:
    return box.x + box.width / 2


def _row_of(step: int, rows: list[_Row]) -> int:
    return next(index for index, row in enumerate(rows) if ("box", step) in row.items)


def points(piece: Piece, count_of: int = 20) -> Iterator[Point]:
    """Points along a piece, both ends among them."""
    for share in (place / count_of for place in range(count_of + 1)):
        here = list(piece)
        while len(here) > 1:  # de Casteljau
            here = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in pairwise(here)]
        yield here[0]
