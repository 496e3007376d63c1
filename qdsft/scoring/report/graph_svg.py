"""A decomposition as a picture: boxes with the steps, arrows from each answer to the steps that use it."""

from __future__ import annotations

import re
from collections.abc import Collection

from qdsft.data.decomposition import Decomposition
from qdsft.scoring.report.graph_layout import LINE, Arrow, Box, lay_out
from qdsft.scoring.report.markup import render

LONGEST_TITLE = 400


def draw_graph(decomposition: Decomposition, title: str, marked: Collection[int] = ()) -> str:
    """Return an SVG of the reference graph, top down.

    `title` is the picture's accessible name. The steps in `marked` are tinted. References that no order of answering
    satisfies (to the step itself, to a later step, to no step) are dashed and have the class `bad`. Long steps are cut
    short, and the `<title>` of a box has up to LONGEST_TITLE characters of the step. Of very many steps only the first
    are drawn, above a sentence that counts the others. Colours come from the style of the page.
    """
    layout = lay_out(decomposition)
    height, remark = layout.height, ""
    if not layout.boxes:
        height, remark = 40.0, "no steps"
    elif layout.left_out:
        height, remark = layout.height + LINE + 10, f"and {layout.left_out} more steps"
    notes = {
        step: f"no such step: {', '.join(f'#{source}' for source in sources[:20])}"
        for step, sources in layout.missing.items()
    }
    bad = {arrow.target for arrow in layout.arrows if arrow.source is None or arrow.source >= arrow.target}
    drawing = render(
        "graph.svg",
        title=title,
        width=layout.width,
        height=height,
        remark=remark,
        arrows=[_arrow(arrow, notes.get(arrow.target, "")) for arrow in layout.arrows],
        missing=[{"place": box, "note": notes[step]} for step, box in layout.missing_boxes.items()],
        boxes=[
            _box(box, decomposition.steps[step - 1], marked=step in marked, bad=step in bad)
            for step, box in layout.boxes.items()
        ],
    )
    return str(drawing)


def _arrow(arrow: Arrow, missing_note: str) -> dict[str, str]:
    note = f"step {arrow.target} uses #{arrow.source}"
    if arrow.source is None:
        note = missing_note
    elif arrow.source == arrow.target:
        note = f"step {arrow.target} refers to itself"
    start, *curves = (_pair(x, y) for x, y in arrow.points)
    (x, y), (tip_x, tip_y) = arrow.points[-1], arrow.tip
    across = ((tip_y - y) / 2, (x - tip_x) / 2)
    corners = (arrow.tip, (x + across[0], y + across[1]), (x - across[0], y - across[1]))
    return {
        "class": "arrow" if arrow.source is not None and arrow.source < arrow.target else "arrow bad",
        "note": note,
        "way": f"M{start}C{' '.join(curves)}",
        "head": f"M{'L'.join(_pair(*corner) for corner in corners)}Z",
    }


def _box(box: Box, step: str, *, marked: bool, bad: bool) -> dict[str, object]:
    whole = step if len(step) <= LONGEST_TITLE else step[:LONGEST_TITLE] + "…"
    lines = box.lines if any(box.lines) else ["(empty)"]
    names = ["box", *(["marked"] if marked else []), *(["bad"] if bad or not any(box.lines) else [])]
    return {
        "place": box,
        "class": " ".join(names),
        "note": f"{box.step}. {whole}",
        # Every second part is a reference: "Is ", "#2", " greater than ", "#1", "?"
        "lines": [re.split(r"(#\d+)", line) for line in lines],
    }


def _pair(x: float, y: float) -> str:
    return f"{x:.1f} {y:.1f}"
