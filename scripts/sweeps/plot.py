"""The picture of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from qdsft.figures import new_figure, save_figure
from qdsft.files import disk_errors


def plot_sweep(
    axes: Mapping[str, Sequence[str]], points: Sequence[tuple[Mapping[str, str], float]], label: str, path: Path
) -> None:
    """Draw a metric over the first axis of a grid, a line for each combination of the others, as a PNG.

    `axes` holds the values of each axis as text, and `points` the (values, metric) of each run. Numbers are placed by
    size, on a logarithmic axis if they span a factor of four or more. Other values are placed at equal distances.
    """
    first, *others = axes
    place = _places(axes[first])
    lines: dict[str, list[tuple[float, float]]] = {}
    for values, metric in points:
        name = ", ".join(f"{key.rpartition('.')[2]} {values[key]}" for key in others)
        lines.setdefault(name, []).append((place[values[first]], metric))
    figure = new_figure(7, 4)
    (plot,) = figure.axes
    for name, line in lines.items():
        plot.plot(*zip(*sorted(line), strict=True), marker="o", label=name)
    if min(place.values()) > 0 and max(place.values()) >= 4 * min(place.values()):
        plot.set_xscale("log")
    plot.set_xticks(list(place.values()), list(place))
    plot.minorticks_off()
    plot.set(xlabel=first, ylabel=label)
    if others:
        plot.legend(frameon=False)
    with disk_errors(path, "choose another --name"):
        save_figure(figure, path, "png")


def _places(values: Sequence[str]) -> dict[str, float]:
    """Return the place of each value: that of its size for numbers, otherwise 0, 1, 2, ..."""
    try:
        found = {value: float(value) for value in values}
    except ValueError:
        found = {}
    if found and all(isfinite(number) for number in found.values()):
        return found
    return {value: float(number) for number, value in enumerate(values)}
