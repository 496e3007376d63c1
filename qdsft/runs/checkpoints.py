"""The checkpoints of a run directory: which are complete, which belong to the run, and their removal."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from qdsft.runs.layout import CHECKPOINT

SAVING = ".saving"
"""Folder in the run directory where a checkpoint is written before it is renamed."""
RUN_DIGEST = "run.sha256"
"""File in a checkpoint with the hash of its run's fingerprint."""
OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
"""The second is FSDP's. The trainer needs one of them to resume."""
DEEPSPEED = "global_step"
"""What the name of DeepSpeed's folder in a checkpoint starts with."""


class TrainerStateFile(BaseModel):
    """What a resume reads of a checkpoint's trainer_state.json."""

    model_config = ConfigDict(strict=True, extra="allow")

    global_step: Annotated[int, Field(ge=1)]
    max_steps: Annotated[int, Field(ge=1)]
    epoch: float | None = None
    log_history: list[dict[str, Any]] = []
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    stateful_callbacks: dict[str, Any] = {}


def complete_checkpoints(run_dir: Path) -> tuple[list[Path], list[Path]]:
    """Return (complete, incomplete) checkpoint folders, each oldest first."""
    found = [path for path in run_dir.glob(f"{CHECKPOINT}*") if re.fullmatch(f"{CHECKPOINT}[0-9]+", path.name)]
    found.sort(key=lambda path: int(path.name.split("-")[1]))
    complete = [path for path in found if _is_complete(path)]
    return complete, [path for path in found if path not in complete]


def _is_complete(checkpoint: Path) -> bool:
    try:
        state = TrainerStateFile.model_validate_json((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if checkpoint.name != f"{CHECKPOINT}{state.global_step}":
        return False
    if any(checkpoint.glob(f"{DEEPSPEED}*")):  # DeepSpeed keeps weights, optimizer and scheduler in there
        return True
    return (
        (checkpoint / "scheduler.pt").is_file()
        and any((checkpoint / name).is_file() for name in OPTIMIZERS)
        and any(checkpoint.glob("*.safetensors"))
    )


def is_of_run(checkpoint: Path, digest: str) -> bool:
    """Return True if a checkpoint belongs to the run whose fingerprint has this SHA-256."""
    try:
        return (checkpoint / RUN_DIGEST).read_text(encoding="utf-8") == digest
    except (OSError, UnicodeDecodeError):
        return False


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint. If this is interrupted, no checkpoint with missing files remains."""
    going = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(going, ignore_errors=True)
    os.replace(checkpoint, going)
    shutil.rmtree(going, ignore_errors=True)


def remove_leftovers(run_dir: Path) -> list[str]:
    """Delete what an interrupted save or removal left; return the names of the unfinished checkpoints."""
    names = [path.name for path in (run_dir / SAVING).glob(f"{CHECKPOINT}*")]
    going = list(run_dir.glob(f".{CHECKPOINT}*.old"))
    for folder in (run_dir / SAVING, *going):
        shutil.rmtree(folder, ignore_errors=True)
    return names
