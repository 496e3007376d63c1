"""The picture that `qdsft data stats` draws."""

from __future__ import annotations

from pathlib import Path

from qdsft.data.checks.stats import Stats
from qdsft.errors import UserError
from qdsft.figures import BAR, new_figure, save_figure
from qdsft.files import disk_errors


def plot_stats(stats: Stats, path: Path) -> None:
    """Draw the number of steps, lengths, reference shapes and scripts of data files as a .png or .svg.

    Raise UserError if the suffix is another, if there are no rows, or if the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in {"png", "svg"}:
        raise UserError(f"{path}: a picture is a .png or .svg file; choose such a name")
    if not stats.rows:
        raise UserError(f"{path} is not drawn: there is no usable row; qdsft data check says why")
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(10, 6, rows=2, columns=2)
    steps, lengths, shapes, scripts = figure.axes
    steps.bar(list(stats.steps), list(stats.steps.values()), color=BAR)
    steps.xaxis.set_major_locator(MaxNLocator(integer=True))
    steps.grid(visible=False, axis="x")
    steps.set(xlabel="steps per row", ylabel="rows")
    for label, values in (("question", stats.question_length), ("step", stats.step_length)):
        lengths.hist(list(values), weights=list(values.values()), bins=40, alpha=0.6, density=True, label=label)
    lengths.set(xlabel="characters", ylabel="share per character")
    lengths.legend(frameon=False)
    for axes, name, counts in (
        (shapes, "references", stats.shapes),
        (scripts, "script of the question", stats.scripts),
    ):
        ordered = counts.most_common()
        axes.barh([label for label, _ in ordered], [count for _, count in ordered], color=BAR)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="rows", title=name)
    figure.suptitle(f"{stats.rows} rows")
    with disk_errors(path, "choose another place"):
        save_figure(figure, path, kind)
