"""Open the run directory of a run that starts or resumes, and find the checkpoint to resume from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.runs.checkpoints import complete_checkpoints, is_of_run, remove_leftovers
from qdsft.runs.directory import open_run
from qdsft.runs.manifest import Manifest, check_resume, read_manifest, write_manifest
from qdsft.training.checkpoint_files import checkpoint_fault


@dataclass(frozen=True)
class Start:
    """Where training starts."""

    checkpoint: Path | None = None
    """The checkpoint to resume from; None to start at the first step."""
    finished: bool = False
    """Whether the run to resume has finished already."""


def template_day(run_dir: Path, *, resume: bool) -> date:
    """Return the date for a chat template that writes it, the same in every process.

    It is the date of the run to resume, else today.
    """
    days = [date.today().isoformat()]
    if resume and PartialState().is_main_process:
        with suppress(UserError):  # `start_or_resume` raises it
            days = [str(read_manifest(run_dir).template_date or days[0])]
    broadcast_object_list(days)
    return date.fromisoformat(days[0])


def start_or_resume(run_dir: Path, manifest: Manifest, *, resume: bool, overwrite: bool) -> Start:
    """Create the run directory, or return where to resume the run in it.

    Raises UserError as `runs.directory.open_run` and `runs.manifest.check_resume` do, and for a resume without a
    usable checkpoint.
    """
    state = PartialState()
    with state.main_process_first():
        if state.is_main_process:
            open_run(run_dir, resume=resume, overwrite=overwrite)
            if not resume:
                write_manifest(run_dir, manifest)  # before anything else: run.json marks the folder as a run
    if not resume:
        return Start()
    earlier = read_manifest(run_dir)
    check_resume(run_dir, earlier.fingerprint, manifest.fingerprint)
    if earlier.state == "finished":
        say(f"{run_dir}: this run has finished; nothing is left to do")
        return Start(finished=True)
    return Start(checkpoint=_newest_checkpoint(run_dir, manifest.fingerprint.sha256()))


def _newest_checkpoint(run_dir: Path, digest: str) -> Path | None:
    """Return the newest undamaged checkpoint of this run; None if the run has saved none.

    The main process reads the files of the checkpoints and tells the others. Raises UserError if there are checkpoints
    and all are unusable, since only the user may decide to start again.
    """
    state = PartialState()
    names: list[str | None] = [None, None]
    if state.is_main_process:
        for name in remove_leftovers(run_dir):
            say(f"{run_dir / name}: incomplete, its save was interrupted; deleted")
        names = _choose(run_dir, digest, state.num_processes)
    chosen, newest = broadcast_object_list(names)
    if newest and not chosen:
        raise UserError(
            f"{run_dir}: none of its checkpoints can be resumed from; put the missing files back, or start again with "
            "--overwrite"
        )
    say(f"resuming from {run_dir / chosen}" if chosen else "no checkpoint was saved; starting from the first step")
    return run_dir / chosen if chosen else None


def _choose(run_dir: Path, digest: str, processes: int) -> list[str | None]:
    """Return the names of the checkpoint to resume from and of the newest one, None for none; print why they differ."""
    complete, incomplete = complete_checkpoints(run_dir)
    for path in incomplete:
        say(f"{path}: incomplete (weights, optimizer, scheduler or trainer_state.json is missing or damaged); not used")
    names = [path.name for path in complete + incomplete]
    for path in reversed(complete):
        if not is_of_run(path, digest):
            say(f"{path}: belongs to another run; not used")
        elif fault := checkpoint_fault(path, processes):
            say(f"{path}: {fault}; not used")
        else:
            return [path.name, names[-1]]
    return [None, names[-1] if names else None]
