"""A sweep: a grid of runs of one recipe, each in its own process and folder, then a table and a picture."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.console import say
from qdsft.data.sources import is_on_hub
from qdsft.data.split import SplitTally, stream_split
from qdsft.errors import Interrupted, UserError
from qdsft.files import exclusive, write_json, write_text
from qdsft.metrics.catalog import BY_KEY
from qdsft.recipe import Recipe, load_recipe
from qdsft.runs.directory import run_state
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import check_resume, make_fingerprint, read_manifest
from qdsft.runs.results import tuned_numbers
from sweeps.grid import Grid, parse_grid, run_name
from sweeps.plot import plot_sweep
from sweeps.sweep_results import Results, check_metric, logged, rank, table

SWEEPS = Path("outputs") / "sweeps"
TABLE, PICTURE, RESULTS = "sweep.md", "sweep.png", "sweep.json"
AGAIN = "run the same command again to continue"

Execute = Callable[[Sequence[str]], int]
"""Runs `qdsft` with these arguments and returns its exit status."""


@dataclass(frozen=True)
class Run:
    """One point of the grid."""

    point: dict[str, str]
    overrides: tuple[str, ...]
    recipe: Recipe


def run_command(words: Sequence[str]) -> int:
    """Run `qdsft WORDS` in a subprocess; a signal that stops this process is passed on, and the run saves first.

    Raises KeyboardInterrupt, once it has ended, for Ctrl-C, SIGTERM and SIGHUP.
    """
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # A new session, so that Ctrl-C reaches the run once, from here, and not also from the terminal.
    # Its results go to standard error: standard output is for the table.
    command = [sys.executable, "-m", "qdsft", *words]
    process = subprocess.Popen(command, env=environment, stdout=2, start_new_session=True)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    earlier = {number: signal.signal(number, stop) for number in heard}
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def sweep(
    path: str,
    overrides: Sequence[str],
    *,
    name: str | None = None,
    metric: str = "loss",
    evaluate: bool = False,
    execute: Execute = run_command,
) -> Results:
    """Train every combination under outputs/sweeps/`name` and write sweep.json, sweep.md and sweep.png there.

    Runs that have finished are not trained again, interrupted ones go on from their newest checkpoint, and one that
    fails is in the table as failed. `loss` is that of the held-out rows at the end of training, in nats per token;
    with `evaluate` it and every other metric come from `qdsft evaluate`. Returns what sweep.json holds.

    Raises UserError before anything is trained for a grid or metric that cannot be, and for folders that hold runs of
    other values; Interrupted if a signal ended it.
    """
    grid = parse_grid(overrides)
    folder = SWEEPS / (name or load_recipe(path, grid.fixed).name)
    if folder.parent != SWEEPS or folder.name in {"", ".", ".."}:
        raise UserError(f"--name {name}: give a folder name without slashes; the folder is created in {SWEEPS}")
    runs = plan_runs(path, grid, folder)
    check_metric(metric, runs[0].recipe, evaluate=evaluate)
    rows = []
    with exclusive(folder, "choose another --name"):
        for run in runs:
            check_unchanged(run)
        for number, run in enumerate(runs, start=1):
            say(f"run {number} of {len(runs)}: {say_values(run.point)}")
            state = _train(path, run, execute)
            if state == "finished" and evaluate:
                state = _evaluate(run, metric, execute)
            rows.append(_row(run, state, evaluate=evaluate))
        results = rank(path, grid, metric, rows)
        _write(folder, results)
    return results


def plan_runs(path: str, grid: Grid, folder: Path) -> list[Run]:
    """Return every run with its resolved recipe. Raises UserError as load_recipe does, and for two equal runs."""
    runs: list[Run] = []
    seen: dict[str, dict[str, str]] = {}
    for point in grid.points():
        values = [*grid.fixed, *(f"{key}={value}" for key, value in point.items())]
        recipe = load_recipe(path, values)
        resolved = json.dumps(recipe.resolved(), sort_keys=True)
        if resolved in seen:
            raise UserError(f"{say_values(point)} and {say_values(seen[resolved])} are the same run; remove a value")
        seen[resolved] = point
        values += [*_held_out_loss(recipe), f"training.output_dir={folder / run_name(point)}"]
        recipe = load_recipe(path, values)
        recipe.chat_template_path()
        recipe.accumulation_steps(1)
        runs.append(Run(point, tuple(values), recipe))
    return runs


def say_values(point: dict[str, str]) -> str:
    """Return a point of the grid in words."""
    return ", ".join(f"{key}={value}" for key, value in point.items())


def _held_out_loss(recipe: Recipe) -> list[str]:
    """Return overrides with which a run logs the loss of its held-out rows."""
    data = recipe.data
    if data.eval is None and data.eval_fraction == 0:
        raise UserError(
            f"{recipe.where('data.eval_fraction')}: a sweep compares runs on held-out rows, and there are none; raise "
            "data.eval_fraction or give data.eval"
        )
    values = []
    if recipe.training_value("eval_strategy") == "no" and recipe.evaluation.every_steps is None:
        values.append("training.eval_strategy=epoch")
    if "per_device_eval_batch_size" not in recipe.training:  # TRL's default is 8, whether it fits or not
        values.append(f"training.per_device_eval_batch_size={recipe.training_value('per_device_train_batch_size')}")
    return values


def check_unchanged(run: Run) -> None:
    """Raise UserError if a run has begun in this folder with other values, data or wording."""
    run_dir = run.recipe.run_dir
    if run_state(run_dir) == "none":
        return
    before = read_manifest(run_dir).fingerprint
    tally = SplitTally()
    if not is_on_hub(run.recipe):
        for side, example in stream_split(run.recipe):
            tally.add(side, example)
    data = DataFacts.model_validate(tally.summary())
    now = make_fingerprint(run.recipe, data, before.template or "", before.world_size or 1)
    if is_on_hub(run.recipe):
        now.data = before.data
    try:
        check_resume(run_dir, before, now)
    except UserError as error:
        what = str(error).partition("; undo")[0]
        raise UserError(f"{what}; undo the change, choose another --name, or delete that folder") from error


def _train(path: str, run: Run, execute: Execute) -> str:
    run_dir = run.recipe.run_dir
    before = run_state(run_dir)
    if before == "finished":
        say(f"{run_dir}: already finished; not trained again")
        return "finished"
    status = execute(["train", path, *run.overrides, *(["--resume"] if before == "begun" else [])])
    _check_stopped(status)
    return "finished" if status == 0 and run_state(run_dir) == "finished" else "failed"


def _evaluate(run: Run, metric: str, execute: Execute) -> str:
    run_dir = run.recipe.run_dir
    if metric in tuned_numbers(run_dir):
        return "finished"
    status = execute(["evaluate", str(run_dir)])
    _check_stopped(status)
    return "finished" if status == 0 else "not evaluated"


def _check_stopped(status: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if status in {128 + number, -number}:
            raise Interrupted(f"stopped; {AGAIN}", number)


def _row(run: Run, state: str, *, evaluate: bool) -> dict[str, Any]:
    run_dir = run.recipe.run_dir
    done = state == "finished"
    found = (tuned_numbers(run_dir) if evaluate else logged(run_dir)) if done else {}
    metrics = {key: value for key, value in found.items() if math.isfinite(value)}
    seconds = read_manifest(run_dir).results.seconds_training if done else None
    values = dict(run.point)
    return {"values": values, "run_dir": str(run_dir), "state": state, "metrics": metrics, "seconds_training": seconds}


def _write(folder: Path, results: Results) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, results)
    write_text(folder / TABLE, table(results))
    metric = results["metric"]
    points = [(row["values"], row["metrics"][metric]) for row in results["runs"] if metric in row["metrics"]]
    if points:
        plot_sweep(results["axes"], points, f"{BY_KEY[metric].name} ({results['better']} is better)", folder / PICTURE)
    else:
        (folder / PICTURE).unlink(missing_ok=True)
