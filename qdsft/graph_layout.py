"""Where the boxes and arrows of a decomposition's graph go: geometry alone, top down, nothing on top of a box.

Steps stand in rows, each below the steps that it refers to. Arrows run down between the rows; one that passes a
row gets a lane of its own between the boxes there. References to the step itself or to a later one, which no
order of answering satisfies, run back up in lanes right of all boxes; those to no step at all are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from statistics import fmean

from qdsft.decomposition import Decomposition
from qdsft.svg import text_width, wrap

WIDTH = 340.0
SIZE = 12.0
LINE = 16.0
MOST_STEPS = 24
"""Further steps are not drawn: models that do not stop write hundreds."""
MOST_LINES = 6

_PER_ROW = 2
_GAP_X, _GAP_Y = 14.0, 32.0
_LANE = 10.0
_PADDING = 9.0
NUMBER_WIDTH = 20.0
MISSING_HEIGHT = 30.0
_NARROWEST, _WIDEST = 96.0, 270.0

Point = tuple[float, float]
Piece = tuple[Point, ...]
"""Two points: a line. Four: a cubic Bezier curve."""
Item = tuple[str, int]
"""("box", step), or ("lane", step that the arrow passing here leads to)."""


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


@dataclass
class Arrow:
    """All arrows of one kind into one step, which may share a way."""

    target: int
    sources: list[int]
    pieces: list[Piece]
    tip: Point
    backward: bool
    """Whether these are references to the step itself or to later ones."""


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
    good: dict[int, list[int]] = {}
    back: dict[int, list[int]] = {}
    missing: dict[int, list[int]] = {}
    for source, target in decomposition.edges:
        if target <= len(steps):
            kind = missing if not 1 <= source <= len(steps) else good if source < target else back
            kind.setdefault(target, []).append(source)
    rows = _ordered(_rows(len(steps), good), good)
    margin = _LANE * (len(back) + 1) if back else 0.0
    boxes: dict[int, Box] = {}
    width = max([WIDTH, *(_place(row, steps, missing, boxes, WIDTH - margin) + margin for row in rows)])
    lanes = _down(rows, boxes, width - margin, _GAP_Y if back else 2.0)
    height = (rows[-1].bottom if rows else 0.0) + (_GAP_Y if back else 2.0)
    arrows = [_forward(target, sources, rows, boxes, lanes) for target, sources in good.items()]
    for place, (target, sources) in enumerate(back.items(), start=1):
        arrows.append(_backward(target, sources, rows, boxes, width - margin + _LANE * place))
    return Layout(width, height, boxes, arrows, len(decomposition.steps) - len(steps))


def _rows(steps: int, sources: dict[int, list[int]]) -> list[list[int]]:
    """Each step in the first row below its sources that has room."""
    rows: list[list[int]] = []
    row_of: dict[int, int] = {}
    for step in range(1, steps + 1):
        first = max((row_of[source] + 1 for source in sources.get(step, ())), default=0)
        row_of[step] = next(row for row in count(first) if row == len(rows) or len(rows[row]) < _PER_ROW)
        if row_of[step] == len(rows):
            rows.append([])
        rows[row_of[step]].append(step)
    return rows


def _ordered(numbers: list[list[int]], sources: dict[int, list[int]]) -> list[_Row]:
    """Rows with boxes and lanes from left to right, ordered so that arrows cross little (barycentre heuristic)."""
    row_of = {step: row for row, steps in enumerate(numbers) for step in steps}
    rows: list[list[Item]] = [[("box", step) for step in steps] for steps in numbers]
    for target, from_steps in sources.items():
        for row in range(min(row_of[source] for source in from_steps) + 1, row_of[target]):
            rows[row].append(("lane", target))

    def joined(above: Item, below: Item) -> bool:
        return above == ("lane", below[1]) or (above[0] == "box" and above[1] in sources.get(below[1], ()))

    for _ in range(2):
        for row in range(1, len(rows)):
            _sort(rows[row], rows[row - 1], lambda item, other: joined(other, item))
        for row in range(len(rows) - 2, -1, -1):
            _sort(rows[row], rows[row + 1], joined)
    return [_Row(row) for row in rows]


def _sort(items: list[Item], others: list[Item], joined: Callable[[Item, Item], bool]) -> None:
    def centre(item: Item) -> float:
        places = [(place + 0.5) / len(others) for place, other in enumerate(others) if joined(item, other)]
        return fmean(places) if places else (before.index(item) + 0.5) / len(before)

    before = list(items)
    items.sort(key=lambda item: (round(centre(item), 6), item[1], item[0]))


def _place(row: _Row, steps: Sequence[str], missing: dict[int, list[int]], boxes: dict[int, Box], room: float) -> float:
    """Make the boxes of a row as wide as their text needs; returns the width of the row."""
    numbers = [step for kind, step in row.items if kind == "box"]
    lanes = len(row.items) - len(numbers)
    between = lanes * _LANE + (len(row.items) - 1) * _GAP_X
    widest = max(_NARROWEST, min(_WIDEST, (room - between) / max(1, len(numbers))))
    for step in numbers:
        lines = wrap(steps[step - 1], widest - 2 * _PADDING - NUMBER_WIDTH, SIZE, MOST_LINES)
        width = max(text_width(line, SIZE) for line in lines) + 2 * _PADDING + NUMBER_WIDTH
        height = len(lines) * LINE + 2 * _PADDING
        boxes[step] = Box(step, 0, 0, max(_NARROWEST, width), height, lines, missing.get(step, []))
    return sum(boxes[step].width for step in numbers) + between


def _down(rows: list[_Row], boxes: dict[int, Box], room: float, top: float) -> dict[tuple[int, int], float]:
    """Give rows and boxes their places; returns (row, target) -> x of the lane there."""
    lanes: dict[tuple[int, int], float] = {}
    for index, row in enumerate(rows):
        own = [boxes[step] for kind, step in row.items if kind == "box"]
        widths = [boxes[step].width if kind == "box" else _LANE for kind, step in row.items]
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
        x = lanes.get((index + 1, target), _middle(end))
        for source in (boxes[step] for step in sources if ("box", step) in row.items):
            pieces.append(((_middle(source), source.y + source.height), (_middle(source), row.bottom)))
            pieces.append(_curve((_middle(source), row.bottom), (x, below.top)))
        if (index, target) in lanes:
            lane = lanes[index, target]
            pieces.append(((lane, row.top), (lane, row.bottom)))
            pieces.append(_curve((lane, row.bottom), (x, below.top)))
    pieces.append(((_middle(end), rows[last].top), (_middle(end), end.y)))
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
