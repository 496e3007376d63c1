"""List the runs in a folder: model, method, data, state and scores."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qdsft.data.task import task_type
from qdsft.errors import UserError
from qdsft.files import is_locked
from qdsft.metrics.catalog import shown_in
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.runs.layout import LOG, MANIFEST, MERGE_FILE
from qdsft.runs.manifest import Manifest, read_manifest
from qdsft.runs.public import public_name
from qdsft.runs.results import method, tuned_numbers


@dataclass(frozen=True)
class ListedRun:
    """One run directory."""

    path: str
    state: str
    """finished, merged model, training now, interrupted at step N, interrupted before the first checkpoint, failed
    start, or damaged."""
    bytes: int
    """Size of all its files."""
    task: str | None = None
    """decomposition or free text. None if run.json cannot be read, like the fields below."""
    model: str | None = None
    method: str | None = None
    data: str | None = None
    steps: int | None = None
    """Optimizer steps done; of an interrupted run those that are saved."""
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything under the names of the fields."""
        return asdict(self)


def list_runs(folder: Path) -> list[ListedRun]:
    """Return the runs in a folder, sorted by name, or the folder itself if it is a run.

    Raises UserError if there is no such folder; a damaged run is listed as such.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds your run directories, such as outputs")
    try:
        places = [folder] if (folder / MANIFEST).exists() else sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give a folder that can be read") from error
    return [_describe(path) for path in places if (path / MANIFEST).exists()]


def _describe(path: Path) -> ListedRun:
    try:
        manifest = read_manifest(path)
    except UserError:
        return ListedRun(str(path), "damaged", _size(path))
    state, saved = _state(path, manifest)
    found = tuned_numbers(path)
    return ListedRun(
        str(path),
        state,
        _size(path),
        task=task_type(manifest.load_recipe().prompt).name,
        model=public_name(manifest.base_model.name_or_path),
        method=_merged_method(path) or method(manifest),
        data=", ".join(map(public_name, manifest.load_recipe().data.train_paths)),
        steps=saved if manifest.results.steps is None else manifest.results.steps,
        metrics={metric.key: found[metric.key] for metric in shown_in("runs") if metric.key in found},
    )


def _state(path: Path, manifest: Manifest) -> tuple[str, int | None]:
    """Return (state, step of the newest complete checkpoint)."""
    complete, _ = complete_checkpoints(path)
    saved = int(complete[-1].name.split("-")[1]) if complete else None
    if manifest.state == "finished" and manifest.weights_folder(path).is_dir():
        return ("merged model" if (path / MERGE_FILE).is_file() else "finished"), saved
    if is_locked(path):
        return "training now", saved
    if saved is not None:
        return f"interrupted at step {saved}", saved
    return ("interrupted before the first checkpoint" if (path / LOG).exists() else "failed start"), None


def _merged_method(path: Path) -> str | None:
    """Return how the adapter of a merged model was trained, which only merge.json records."""
    try:
        return str(json.loads((path / MERGE_FILE).read_text(encoding="utf-8"))["method"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # a running training deletes its older checkpoints
                continue
    return total


def run_lines(runs: list[ListedRun]) -> Iterator[str]:
    """Yield the lines of a table."""
    rows = [["run", "state", "model", "method", "data", "size", "metrics"]]
    for run in runs:
        scores = "  ".join(f"{name} {value:.3f}" for name, value in run.metrics.items())
        size = f"{run.bytes / 2**30:.1f} GiB" if run.bytes >= 2**30 else f"{run.bytes / 2**20:.1f} MiB"
        data = f"{run.data} ({run.task})" if run.task == "free text" else run.data
        rows.append(
            [Path(run.path).name, run.state, run.model or "-", run.method or "-", data or "-", size, scores or "-"]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
