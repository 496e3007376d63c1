"""The style that all pictures drawn with matplotlib share, and how they are saved."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from qdsft.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT, FAINT, RULE = "#ffffff", "#1c2126", "#5b646d", "#8b949c", "#dfe3e6"
FIRST, BAR, SECOND = "#0a64a4", "#6ea8d6", "#6a737b"
SERIES = (FIRST, "#c2570c", "#2e7d4f", "#7a4fa3", "#8a6d1b", SECOND)
"""Colours of the lines of a picture, in order. They repeat after the last."""


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Figure:
    """Return a figure of `width` x `height` inches with styled axes. No state of pyplot refers to the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        style(axes)
        axes.grid(color=RULE)
    return figure


def style(axes: Axes) -> None:
    """Set the colours that all pictures share, and remove the frame except for the base line."""
    axes.set_prop_cycle(color=SERIES)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, pad=6, labelcolor=SOFT)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as `kind` (png or svg). The file is complete or not written at all."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format=kind)
    with replacing(path) as temporary:
        temporary.write_bytes(picture.getvalue())
