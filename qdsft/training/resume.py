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
    """Return the newest complete checkpoint of this run; None if the run has saved none.

    Raises UserError if there are checkpoints and all are unusable, since only the user may decide to start again.
    """
    state = PartialState()
    with state.main_process_first():
        if state.is_main_process:
            for name in remove_leftovers(run_dir):
                say(f"{run_dir / name}: incomplete, its save was interrupted; deleted")
    complete, incomplete = complete_checkpoints(run_dir)
    own = [path for path in complete if is_of_run(path, digest)]
    for path in incomplete:
        say(f"{path}: incomplete (weights, optimizer, scheduler or trainer_state.json is missing); not used")
    for path in complete:
        if path not in own:
            say(f"{path}: belongs to another run; not used")
    if not own and (complete or incomplete):
        raise UserError(
            f"{run_dir}: none of its checkpoints can be resumed from; put the missing files back, or start again with "
            "--overwrite"
        )
    say(f"resuming from {own[-1]}" if own else "no checkpoint was saved; starting from the first step")
    return own[-1] if own else None
