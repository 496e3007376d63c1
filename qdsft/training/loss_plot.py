"""Pictures: the loss curve of a run, the runs of a sweep, and what is in data files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdsft.files import disk_errors, save_figure


def plot_loss(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and held-out loss over steps (nats per supervised token) from the trainer's log history."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for key, label in (("loss", "training"), ("eval_loss", "held out")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 40 else "")
    axes.set(xlabel="optimizer step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    with disk_errors(path):
        save_figure(figure, path, "png")
