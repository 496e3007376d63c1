"""Train a recipe: build the run, check it, run the training loop, and save the adapter or model."""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from pathlib import Path

from safetensors import SafetensorError

from qdsft.console import is_main_process, say
from qdsft.errors import Interrupted, UserError
from qdsft.files import copy_file, exclusive
from qdsft.model.device_errors import device_errors, less_memory
from qdsft.model.weight_files import check_readable
from qdsft.recipe import Recipe
from qdsft.runs.card import write_card
from qdsft.runs.directory import refuse_inputs_inside
from qdsft.runs.layout import EVAL_ROWS, LOSS_PLOT
from qdsft.runs.manifest import Manifest, write_manifest
from qdsft.training.callbacks import StopRequest
from qdsft.training.checks import require_checks
from qdsft.training.lora_init import write_initial_adapter
from qdsft.training.loss_plot import plot_loss
from qdsft.training.resume import start_or_resume
from qdsft.training.run_record import new_manifest, training_results
from qdsft.training.run_setup import Run, build_run, prepare_run
from qdsft.training.saved_weights import check_checkpoint, save_weights

FREE_BYTES_WHEN_FULL = 2**20


def train(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train a recipe and return the run directory.

    Raises UserError for anything the user can correct, mostly before the weights are loaded, and Interrupted if a
    signal stopped the training after a checkpoint.
    """
    started = time.monotonic()
    if not resume:
        refuse_inputs_inside(recipe)
    with exclusive(recipe.run_dir.resolve()) if is_main_process() else nullcontext():
        inputs = prepare_run(recipe, resume=resume)
        manifest = new_manifest(inputs)
        if overwrite:
            check_readable(recipe)  # before the earlier run is deleted
        start = start_or_resume(recipe.run_dir, manifest, resume=resume, overwrite=overwrite)
        if start.finished:
            return recipe.run_dir
        run = build_run(inputs, checkpoint=start.checkpoint)
        _check_and_record(run, manifest)
        ready = time.monotonic()
        _take_steps(run, start.checkpoint)
        with device_errors(f"saving the weights of {recipe.path}", f"resume with: {recipe.resume_command()}"):
            save_weights(run.trainer, recipe.run_dir / manifest.artifact, trained=True)
        if is_main_process():
            results = training_results(
                run.trainer,
                inputs.prepared,
                seconds_to_first_step=ready - started,
                seconds_training=time.monotonic() - ready,
            )
            manifest.results.update(results)
            _record_finish(run, manifest)
        say(f"finished: {recipe.run_dir / manifest.artifact}")
        return recipe.run_dir


def _check_and_record(run: Run, manifest: Manifest) -> None:
    """Check the run, then write the held-out rows and run.json. Raises UserError for a failed check."""
    recipe = run.inputs.recipe
    if run.checkpointing:
        manifest.results.update({"activation_checkpointing": run.checkpointing.to_json()})
    manifest.results.update({"preflight": [check.to_json() for check in require_checks(run)]})
    run.trainer.run_digest = manifest.fingerprint.sha256()
    if is_main_process():
        copy_file(run.inputs.prepared.eval_rows, recipe.run_dir / EVAL_ROWS)
        write_initial_adapter(run.trainer, recipe.run_dir)
        write_manifest(recipe.run_dir, manifest)


def _take_steps(run: Run, checkpoint: Path | None) -> None:
    """Run TRL's training loop. Raises Interrupted after a signal.

    Raises UserError if memory or disk run out, for a damaged checkpoint, and as `NonFiniteStop` does.
    """
    trainer, recipe = run.trainer, run.inputs.recipe
    if checkpoint:
        check_checkpoint(checkpoint, trainer)
    stop = StopRequest()
    trainer.add_callback(stop)
    trainer.stop_request = stop
    try:
        with stop.listening(), device_errors(f"training {recipe.path}", less_memory(recipe)):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (OSError, RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(recipe.run_dir).free > FREE_BYTES_WHEN_FULL:
            raise
        raise UserError(
            f"{recipe.run_dir}: the disk is full; free some space and resume with: {recipe.resume_command()}"
        ) from error
    if stop.stopped:
        step = trainer.state.global_step
        raise Interrupted(f"stopped and saved at step {step}; resume with: {recipe.resume_command()}", stop.number)


def _record_finish(run: Run, manifest: Manifest) -> None:
    run_dir = run.inputs.recipe.run_dir
    manifest.state = "finished"
    plot_loss(run.trainer.state.log_history, run_dir / LOSS_PLOT)
    write_manifest(run_dir, manifest)
    write_card(run_dir, manifest)
