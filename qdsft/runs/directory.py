"""Open a run directory, and tell how far a run in it has come."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from qdsft.errors import UserError
from qdsft.files import disk_errors
from qdsft.runs.layout import CHECKPOINT, LOG, MANIFEST
from qdsft.runs.manifest import read_manifest


def open_run(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the run directory, or refuse one that is in use.

    Raises UserError if a run has begun in it and neither `resume` nor `overwrite` is given, if that
    would delete something that is not a run directory, or if it cannot be written.
    """
    with disk_errors(run_dir):
        occupied = run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir()))
        is_run = (run_dir / MANIFEST).is_file()
        if resume and not is_run:
            raise UserError(f"{run_dir}: nothing to resume: {MANIFEST} is missing; start without --resume")
        if occupied and not is_run:
            raise UserError(
                f"{run_dir}: holds files that are no run of qdsft; choose another folder with training.output_dir=..."
            )
        if occupied and not resume and not overwrite and _has_begun(run_dir):
            state = "a finished" if _state(run_dir) == "finished" else "an unfinished"
            raise UserError(
                f"{run_dir}: holds {state} run; add --resume to go on, --overwrite to delete it, "
                "or choose another folder with training.output_dir=..."
            )
        if occupied and not resume:
            shutil.rmtree(run_dir)
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.write_bytes(b"qdsft")
        probe.unlink()


def run_state(run_dir: Path) -> Literal["none", "begun", "finished"]:
    """Where a run stands: --resume is for one that has begun; "none" is one that `open_run` lets start."""
    if not (run_dir / MANIFEST).is_file() or not _has_begun(run_dir):
        return "none"
    return "finished" if _state(run_dir) == "finished" else "begun"


def _has_begun(run_dir: Path) -> bool:
    """Whether there is anything to lose: a run that failed before its first logged step has left nothing."""
    return (run_dir / LOG).exists() or any(run_dir.glob(f"{CHECKPOINT}*")) or _state(run_dir) != "running"


def _state(run_dir: Path) -> str | None:
    try:
        return read_manifest(run_dir).state
    except UserError:
        return None
