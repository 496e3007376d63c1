"""Pictures: the loss curve of a run, the runs of a sweep, and what is in data files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.files import disk_errors, replacing
from qdsft.stats import Stats


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
        _save(figure, path, "png")


def plot_stats(stats: Stats, path: Path) -> None:
    """Draw the steps, lengths, reference shapes and scripts of data files as a .png or .svg.

    Raises UserError for another suffix, if there are no rows, and if the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in {"png", "svg"}:
        raise UserError(f"{path}: a picture is drawn as .png or .svg; choose such a name")
    if not stats.rows:
        raise UserError(f"{path} is not drawn: there is no usable row; qdsft data check says why")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(2, 2, figsize=(10, 6), layout="constrained")
    (steps, lengths), (shapes, scripts) = places
    steps.bar(list(stats.steps), list(stats.steps.values()))
    steps.set(xlabel="steps per row", ylabel="rows")
    for label, values in (("question", stats.question_length), ("step", stats.step_length)):
        lengths.hist(list(values), weights=list(values.values()), bins=40, alpha=0.6, density=True, label=label)
    lengths.set(xlabel="characters", ylabel="share per character")
    lengths.legend()
    for axes, name, counts in (
        (shapes, "references", stats.shapes),
        (scripts, "script of the question", stats.scripts),
    ):
        ordered = counts.most_common()
        axes.barh([label for label, _ in ordered], [count for _, count in ordered])
        axes.invert_yaxis()
        axes.set(xlabel="rows", title=name)
    figure.suptitle(f"{stats.rows} rows")
    with disk_errors(path, "choose another place"):
        _save(figure, path, kind)


def plot_sweep(
    axes: Mapping[str, Sequence[str]], points: Sequence[tuple[Mapping[str, str], float]], label: str, path: Path
) -> None:
    """Draw a metric over the first axis of a grid, a line for each combination of the others, as a PNG.

    `axes` holds the values of each axis as text, `points` (values, metric) of each run; numbers are placed by their
    size, on a logarithmic axis where they span a factor of four or more, and other values side by side.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    first, *others = axes
    place = _places(axes[first])
    lines: dict[str, list[tuple[float, float]]] = {}
    for values, metric in points:
        name = ", ".join(f"{key.rpartition('.')[2]} {values[key]}" for key in others)
        lines.setdefault(name, []).append((place[values[first]], metric))
    figure, plot = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, line in lines.items():
        plot.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
    if min(place.values()) > 0 and max(place.values()) >= 4 * min(place.values()):
        plot.set_xscale("log")
    plot.set_xticks(list(place.values()), list(place))
    plot.minorticks_off()
    plot.set(xlabel=first, ylabel=label)
    plot.grid(alpha=0.3)
    if others:
        plot.legend()
    with disk_errors(path, "choose another --name"):
        _save(figure, path, "png")


def _places(values: Sequence[str]) -> dict[str, float]:
    """Where each value stands: numbers at their size, other values at 0, 1, 2, ..."""
    try:
        found = {value: float(value) for value in values}
    except ValueError:
        found = {}
    if found and all(isfinite(number) for number in found.values()):
        return found
    return {value: float(number) for number, value in enumerate(values)}


def _save(figure: Any, path: Path, kind: str) -> None:
    from matplotlib import pyplot

    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format=kind)
    pyplot.close(figure)
    with replacing(path) as temporary:
        temporary.write_bytes(picture.getvalue())
