"""The histograms of `qdsft data stats`."""

from __future__ import annotations

from pathlib import Path

from qdsft.data.checks.stats import Stats
from qdsft.errors import UserError
from qdsft.files import disk_errors, save_figure


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
        save_figure(figure, path, kind)
