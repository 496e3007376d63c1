"""Open a run directory, and tell the state of its run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import find_custom_loss
from qdsft.runs.layout import CHECKPOINT, LOG, MANIFEST, foreign_files
from qdsft.runs.manifest import read_manifest


def open_run(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Create the run directory, or refuse one that is in use.

    Raises UserError if a run has begun in it and neither `resume` nor `overwrite` is given, if the folder
    is not a run directory or holds files that qdsft did not write, or if it cannot be written.
    """
    with disk_errors(run_dir):
        if run_dir.is_symlink() and not run_dir.exists():
            raise UserError(f"{run_dir}: a link to {run_dir.readlink()}, which does not exist; mount or create that")
        occupied = run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir()))
        is_run = (run_dir / MANIFEST).is_file()
        if resume and not is_run:
            raise UserError(f"{run_dir}: nothing to resume: {MANIFEST} is missing; start without --resume")
        if occupied and not is_run:
            raise UserError(
                f"{run_dir}: holds files that are not a qdsft run; choose another folder with training.output_dir=..."
            )
        if occupied and not resume and not overwrite and _has_begun(run_dir):
            state = "a finished" if _state(run_dir) == "finished" else "an unfinished"
            raise UserError(
                f"{run_dir}: holds {state} run; add --resume to continue it, --overwrite to delete it, "
                "or choose another folder with training.output_dir=..."
            )
        if occupied and not resume:
            _clear(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.write_bytes(b"qdsft")
        probe.unlink()


def refuse_inputs_inside(recipe: Recipe) -> None:
    """Raise UserError if a run would delete, with an earlier run in its directory, something that it reads."""
    template, loss = recipe.chat_template_path(), find_custom_loss(recipe)
    inputs = [
        ("model.name_or_path", Path(recipe.model.name_or_path)),
        *(("data.train", Path(name)) for name in recipe.data.train_paths),
        ("data.eval", Path(recipe.data.eval) if recipe.data.eval else None),
        ("model.chat_template", template),
        ("training.loss_type", loss.path if loss else None),
        ("the recipe", recipe.path),
    ]
    folders = {
        Path(os.path.abspath(recipe.run_dir)),
        Path(os.path.realpath(recipe.run_dir)),
    }
    for key, path in inputs:
        if path is None or not path.exists():  # on the Hub
            continue
        for place in (Path(os.path.abspath(path)), path.resolve()):
            if any(place.is_relative_to(folder) for folder in folders):
                raise UserError(
                    f"{recipe.where(key)}: {key}: {path} lies in the run directory {recipe.run_dir}; move it, or "
                    "choose another folder with training.output_dir=..."
                )


def _clear(run_dir: Path) -> None:
    """Delete a run, but nothing that qdsft did not write. Raises UserError, before anything is deleted."""
    remedy = "choose another folder with training.output_dir=..."
    if _state(run_dir) is None:
        raise UserError(f"{run_dir / MANIFEST}: not the {MANIFEST} of a run; delete the folder yourself, or {remedy}")
    if foreign := foreign_files(run_dir):
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise UserError(
            f"{run_dir}: holds files that qdsft did not write ({', '.join(map(ascii, foreign[:5]))}{more}), and "
            f"nothing is deleted; move them away, or {remedy}"
        )
    for entry in sorted(
        run_dir.iterdir(), key=lambda entry: entry.name == MANIFEST
    ):  # last: it marks the folder as a run
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def run_state(run_dir: Path) -> Literal["none", "begun", "finished"]:
    """Return the state of a run. A run that has begun needs --resume; "none" may start."""
    if not (run_dir / MANIFEST).is_file() or not _has_begun(run_dir):
        return "none"
    return "finished" if _state(run_dir) == "finished" else "begun"


def _has_begun(run_dir: Path) -> bool:
    """Return False for a run that failed before its first logged step: it has left nothing to lose."""
    return (run_dir / LOG).exists() or any(run_dir.glob(f"{CHECKPOINT}*")) or _state(run_dir) != "running"


def _state(run_dir: Path) -> str | None:
    try:
        return read_manifest(run_dir).state
    except UserError:
        return None
