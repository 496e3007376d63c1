"""A decomposition as a picture: boxes with the steps, arrows from each answer to where it is used."""

from __future__ import annotations

from collections.abc import Collection

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.scoring.report.graph_layout import (
    LINE,
    LOOP,
    MISSING_HEIGHT,
    NUMBER_WIDTH,
    SIZE,
    WIDTH,
    Arrow,
    Box,
    Layout,
    lay_out,
)
from qdsft.scoring.report.svg import element, escape, label, number, picture, text_width, wrap

LONGEST_TITLE = 400


def draw_graph(decomposition: Decomposition, title: str, marked: Collection[int] = ()) -> str:
    """An SVG of the reference graph, top down; never raises, whatever the steps hold.

    `title` is the text for those who cannot see it. The steps in `marked` are tinted. References that no order of
    answering satisfies (to the step itself, to a later one, to none) are drawn dashed, with class `bad`. Long
    steps are cut short; the whole step, up to LONGEST_TITLE characters, is its box's `<title>`. Colours come
    from `page.STYLE`.
    """
    layout = lay_out(decomposition)
    if not layout.boxes:
        content = label("no steps", WIDTH / 2, 24, class_="bad", text_anchor="middle", font_size=SIZE)
        return picture(content, WIDTH, 40, title, "graph")
    content = "".join(map(_arrow, layout.arrows))
    content += "".join(
        _box(box, decomposition.steps[box.step - 1], box.step in marked, _is_bad(box, layout))
        for box in layout.boxes.values()
    )
    height = layout.height
    if layout.left_out:
        height += LINE + 6
        more = f"and {layout.left_out} more steps"
        content += label(more, layout.width / 2, height - 6, class_="bad", text_anchor="middle", font_size=SIZE)
    return picture(content, layout.width, height, title, "graph")


def _is_bad(box: Box, layout: Layout) -> bool:
    return box.own or bool(box.missing) or any(arrow.backward and arrow.target == box.step for arrow in layout.arrows)


def _arrow(arrow: Arrow) -> str:
    ways = []
    for piece in arrow.pieces:
        start, *rest = (f"{number(x)} {number(y)}" for x, y in piece)
        ways.append(f"M{start}{'C' if len(rest) == 3 else 'L'}{' '.join(rest)}")
    x, y = arrow.tip
    head = f"M{number(x)} {number(y)}L{number(x - 4)} {number(y - 7)}L{number(x + 4)} {number(y - 7)}Z"
    meaning = f"step {arrow.target} uses {', '.join(f'#{source}' for source in arrow.sources)}"
    return element(
        "g",
        element("title", meaning)
        + element("path", d="".join(ways), class_="way")
        + element("path", d=head, class_="tip"),
        class_="arrow bad" if arrow.backward else "arrow",
    )


def _box(box: Box, step: str, marked: bool, bad: bool) -> str:
    whole = step if len(step) <= LONGEST_TITLE else step[:LONGEST_TITLE] + "…"
    parts = [
        element("title", escape(f"{box.step}. {whole}")),
        element("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=7),
        label(str(box.step), box.x + 9, box.y + 9 + SIZE, class_="step", font_size=SIZE),
    ]
    lines = box.lines if any(box.lines) else ["(empty)"]
    for place, line in enumerate(lines):
        text = REFERENCE.sub(lambda found: f'<tspan class="ref">{found[0]}</tspan>', escape(line)) or " "
        parts.append(
            element("text", text, x=box.x + 9 + NUMBER_WIDTH, y=box.y + 9 + SIZE + place * LINE, font_size=SIZE)
        )
    if box.missing:
        parts.append(_missing(box))
    if box.own:
        parts.append(_loop(box))
    names = ["box", *(["marked"] if marked else []), *(["bad"] if bad or not any(box.lines) else [])]
    return element("g", "".join(parts), class_=" ".join(names))


def _loop(box: Box) -> str:
    """The reference of a step to itself."""
    x, y = box.x + box.width, box.y + box.height / 2
    way = f"M{number(x)} {number(y + 8)}C{number(x + LOOP)} {number(y + 14)} {number(x + LOOP)} {number(y - 12)}"
    head = f"M{number(x)} {number(y - 6)}l7 -4v8Z"
    return element(
        "g",
        element("title", f"step {box.step} refers to itself")
        + element("path", d=f"{way} {number(x + 5)} {number(y - 6)}", class_="way")
        + element("path", d=head, class_="tip"),
        class_="arrow bad",
    )


def _missing(box: Box) -> str:
    """The references of a step to no step: a small box of their own above it."""
    room = box.width / 2 - 14
    text = wrap(", ".join(f"#{source}" for source in box.missing), room - 10, SIZE - 1, 1)[0]
    width, top = text_width(text, SIZE - 1) + 10, box.y - MISSING_HEIGHT + 2
    middle = box.x + width / 2
    foot = top + 17
    return element(
        "g",
        element("title", f"no such step: {', '.join(f'#{source}' for source in box.missing[:20])}")
        + element("rect", x=box.x, y=top, width=width, height=17, rx=4)
        + label(text, middle, top + 12.5, text_anchor="middle", font_size=SIZE - 1, class_="ref")
        + element("path", d=f"M{number(middle)} {number(foot)}V{number(box.y)}", class_="way"),
        class_="missing",
    )
