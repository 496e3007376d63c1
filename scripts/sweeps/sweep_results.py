"""Read the results of a sweep's runs, rank them, and print a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.data.task import task_type
from qdsft.errors import UserError
from qdsft.metrics.catalog import BY_KEY, METRICS
from qdsft.recipe import Recipe
from qdsft.runs.layout import LOG
from sweeps.grid import Grid

Results = dict[str, Any]
"""`{"recipe", "fixed", "axes", "metric", "better", "best": folder or None, "runs": [{"values", "run_dir", "state",
"metrics", "seconds_training"}, ...]}`, best run first: what sweep.json holds."""


def check_metric(metric: str, recipe: Recipe, *, evaluate: bool) -> None:
    """Raise UserError for a metric that the runs will not have."""
    task = task_type(recipe.prompt).name
    known = [metric.key for metric in METRICS if metric.kind == "loss" or task in metric.tasks]
    if metric not in known:
        raise UserError(f"--metric {metric}: not a metric of these runs; choose one of {', '.join(known)}")
    if metric != "loss" and not evaluate:
        raise UserError(f"--metric {metric} requires answers; add --evaluate, which decodes each run's held-out rows")


def logged(run_dir: Path) -> dict[str, float]:
    """Return the last loss on held-out rows in the trainer's log; incomplete lines are ignored."""
    found = {}
    for line in (run_dir / LOG).read_text(encoding="utf-8").split("\n"):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "eval_loss" in entry:
            found["loss"] = float(entry["eval_loss"])
    return found


def rank(path: str, grid: Grid, metric: str, rows: list[dict[str, Any]]) -> Results:
    """Return the rows of all runs, best first; runs without the metric come last."""
    better = BY_KEY[metric].better
    sign = -1 if better == "higher" else 1
    scored = [row for row in rows if metric in row["metrics"]]
    ranked = sorted(scored, key=lambda row: sign * row["metrics"][metric])
    ranked += [row for row in rows if metric not in row["metrics"]]
    return {
        "recipe": path,
        "fixed": list(grid.fixed),
        "axes": {key: list(values) for key, values in grid.axes.items()},
        "metric": metric,
        "better": better,
        "best": ranked[0]["run_dir"] if scored else None,
        "runs": ranked,
    }


def table(results: Results) -> str:
    """Return the runs as a Markdown table, best first."""
    metric, axes = results["metric"], list(results["axes"])
    lines = [["run", *axes, BY_KEY[metric].name, "seconds", "state"]]
    lines.append(["---"] * len(lines[0]))
    for number, row in enumerate(results["runs"], start=1):
        value, seconds = row["metrics"].get(metric), row["seconds_training"]
        cells = [str(number), *(row["values"][axis] for axis in axes)]
        cells += ["" if value is None else f"{value:.4f}", "" if seconds is None else f"{seconds:.0f}", row["state"]]
        lines.append([cell.replace("|", "\\|").replace("\n", " ") for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
