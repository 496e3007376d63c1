"""The loss curve of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdsft.figures import new_figure, save_figure
from qdsft.files import disk_errors


def plot_loss(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and held-out loss (nats per supervised token) over steps, from the trainer's log history."""
    figure = new_figure(7, 4)
    (axes,) = figure.axes
    for key, label in (("loss", "training"), ("eval_loss", "held out")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 40 else "")
    axes.set(xlabel="optimizer step", ylabel="loss (nats per token)")
    if axes.lines:
        axes.legend(frameon=False)
    with disk_errors(path):
        save_figure(figure, path, "png")
