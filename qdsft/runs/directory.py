"""Open a run directory, and tell the state of its run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.runs.layout import CHECKPOINT, LOG, MANIFEST
from qdsft.runs.manifest import read_manifest


def open_run(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Create the run directory, or refuse one that is in use.

    Raises UserError if a run has begun in it and neither `resume` nor `overwrite` is given, if the folder
    is not a run directory, or if it cannot be written.
    """
    with disk_errors(run_dir):
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
            shutil.rmtree(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.write_bytes(b"qdsft")
        probe.unlink()


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
