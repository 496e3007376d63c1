"""Stage: a recipe in, a run directory with the trained adapter or model out."""

from __future__ import annotations

import platform
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError

from qdsft.console import is_main_process, say
from qdsft.errors import Interrupted, UserError
from qdsft.files import copy_file, exclusive
from qdsft.hashing import text_sha256
from qdsft.launch import check_launch, check_running, world_size
from qdsft.model.cpu_allocator import keep_freed_memory
from qdsft.model.device import Machine, find_machine
from qdsft.model.loading import base_model_facts, load_config, load_model, load_tokenizer, stop_token_ids
from qdsft.recipe import Recipe
from qdsft.runs.card import write_card
from qdsft.runs.checkpoints import complete_checkpoints, is_of_run, remove_leftovers
from qdsft.runs.directory import open_run
from qdsft.runs.facts import BaseModelFacts, DataFacts, DeviceFacts, TokenFacts
from qdsft.runs.layout import EVAL_ROWS, LOSS_PLOT
from qdsft.runs.manifest import GoldenPrompt, Manifest, check_resume, fingerprint, read_manifest, write_manifest
from qdsft.runs.provenance import git_commit, versions
from qdsft.tokenization.prepared import Prepared, describe, prepare
from qdsft.training.activation_checkpointing import settle_recomputation
from qdsft.training.build import build_config, build_trainer
from qdsft.training.callbacks import StopRequest
from qdsft.training.checks import Readiness
from qdsft.training.decode_held_out import training_evaluation
from qdsft.training.loss_plot import plot_loss
from qdsft.training.memory_probe import less_memory
from qdsft.training.saved_weights import save_weights
from qdsft.training.trainer import RecipeTrainer

FREE_BYTES_WHEN_FULL = 2**20


def train(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the recipe says and return the run directory.

    Raises UserError for anything the user can mend; most of it before the weights are loaded.
    """
    with exclusive(recipe.run_dir) if is_main_process() else nullcontext():
        return _train(recipe, resume=resume, overwrite=overwrite)


def _train(recipe: Recipe, *, resume: bool, overwrite: bool) -> Path:
    started = time.monotonic()
    check_launch(quantized=recipe.quantization is not None)
    machine = find_machine()
    if machine.device == "cpu":
        keep_freed_memory()
    state = PartialState(cpu=machine.device == "cpu")
    # Kept from here on: it is what tells transformers to shard the weights while it loads them (ZeRO-3).
    arguments = build_config(recipe, machine, recipe.run_dir)
    _announce(recipe, machine)
    config, tokenizer = load_config(recipe), load_tokenizer(recipe)
    stop_ids = stop_token_ids(recipe, tokenizer, config)
    with state.local_main_process_first():  # the others find it in the cache
        prepared = prepare(recipe, tokenizer, stop_ids)
    for line in describe(prepared, recipe):
        say(line)
    manifest = _manifest(recipe, machine, prepared, tokenizer.chat_template, stop_ids, base_model_facts(recipe, config))
    checkpoint = _open(recipe, manifest, state, resume=resume, overwrite=overwrite)
    if checkpoint == recipe.run_dir:
        return recipe.run_dir
    arguments.eval_on_start = arguments.eval_on_start and checkpoint is None
    manifest.results.update(settle_recomputation(recipe, machine, prepared.tokens["longest"], arguments))
    model = load_model(recipe, machine, trainable=True, config=config)
    trainer = build_trainer(recipe, arguments, model, tokenizer, prepared.train, prepared.eval)
    check_running(
        processes=trainer.accelerator.num_processes,
        device=machine.device,
        deepspeed=trainer.is_deepspeed_enabled,
        fsdp=trainer.is_fsdp_enabled,
    )
    trainer.held_out = training_evaluation(recipe, prepared.folder, tokenizer, stop_ids)
    checks = _check_readiness(Readiness(recipe, trainer, prepared, stop_ids), machine)
    manifest.results.update({"preflight": checks})
    if state.is_main_process:
        copy_file(prepared.eval_rows, recipe.run_dir / EVAL_ROWS)
        write_manifest(recipe.run_dir, manifest)
    trainer.run_digest = manifest.fingerprint.sha256()
    stop = StopRequest()
    trainer.add_callback(stop)
    ready = time.monotonic()
    with stop.listening():
        _run_trainer(trainer, recipe, checkpoint)
    if stop.stopped:
        step = trainer.state.global_step
        raise Interrupted(f"stopped and saved at step {step}; go on with: {recipe.resume_command()}", stop.number)
    save_weights(trainer, recipe.run_dir / manifest.artifact, trained=True)
    if state.is_main_process:
        manifest.results.update(_results(trainer, prepared, ready - started, time.monotonic() - ready))
        manifest.state = "finished"
        plot_loss(trainer.state.log_history, recipe.run_dir / LOSS_PLOT)
        write_manifest(recipe.run_dir, manifest)
        write_card(recipe.run_dir, manifest)
    say(f"finished: {recipe.run_dir / manifest.artifact}")
    return recipe.run_dir


def _announce(recipe: Recipe, machine: Machine) -> None:
    dtype = str(machine.choose_dtype(recipe.model.dtype)).removeprefix("torch.")
    wanted = "" if recipe.model.dtype in {"auto", dtype} else f" (the recipe asks for {recipe.model.dtype})"
    say(f"device: {machine.device} ({machine.name}), {dtype}{wanted}, {world_size()} process(es)")
    steps = recipe.accumulation_steps(world_size())
    micro = recipe.training_value("per_device_train_batch_size")
    say(f"batch: {micro} x {steps} accumulation steps x {world_size()} process(es) = {micro * steps * world_size()}")


def _manifest(
    recipe: Recipe,
    machine: Machine,
    prepared: Prepared,
    template: str,
    stop_ids: list[int],
    base_model: dict[str, Any],
) -> Manifest:
    """run.json of a run that begins."""
    template_sha256 = text_sha256(template)
    data = DataFacts.model_validate(prepared.data)
    return Manifest(
        state="running",
        recipe_path=str(recipe.path),
        recipe=recipe.resolved(),
        origins=recipe.origins,
        fingerprint=fingerprint(recipe, data, template_sha256, world_size()),
        data=data,
        tokens=TokenFacts.model_validate(prepared.tokens),
        template_sha256=template_sha256,
        golden_prompts=[GoldenPrompt.model_validate(prompt) for prompt in prepared.golden_prompts],
        stop_token_ids=stop_ids,
        base_model=BaseModelFacts.model_validate(base_model),
        artifact="model" if recipe.lora is None else "adapter",
        versions=versions(),
        git=git_commit(),
        device=_device(machine),
    )


def _device(machine: Machine) -> DeviceFacts:
    return DeviceFacts(kind=machine.device, name=machine.name, processes=world_size(), platform=platform.platform())


def _open(recipe: Recipe, manifest: Manifest, state: PartialState, *, resume: bool, overwrite: bool) -> Path | None:
    """Open the run directory; returns the checkpoint to go on from, or the directory if nothing is left to do."""
    run_dir = recipe.run_dir
    with state.main_process_first():
        if state.is_main_process:
            open_run(run_dir, resume=resume, overwrite=overwrite)
            if not resume:
                write_manifest(run_dir, manifest)  # first of all: it is what marks the folder as ours
    if not resume:
        return None
    earlier = read_manifest(run_dir)
    check_resume(run_dir, earlier.fingerprint, manifest.fingerprint)
    if earlier.state == "finished":
        say(f"{run_dir}: this run has finished; nothing is left to do")
        return run_dir
    return _newest_checkpoint(run_dir, manifest.fingerprint.sha256(), state)


def _newest_checkpoint(run_dir: Path, digest: str, state: PartialState) -> Path | None:
    """The newest complete checkpoint of this run, and None if it has saved none.

    Raises UserError if there are checkpoints and none of them can be used: to begin anew is for the user to say.
    """
    with state.main_process_first():
        if state.is_main_process:
            for name in remove_leftovers(run_dir):
                say(f"{run_dir / name}: cut short while it was saved; deleted")
    complete, incomplete = complete_checkpoints(run_dir)
    own = [path for path in complete if is_of_run(path, digest)]
    for path in incomplete:
        say(f"{path}: incomplete (weights, optimizer, scheduler or trainer_state.json is missing); not used")
    for path in complete:
        if path not in own:
            say(f"{path}: of another run; not used")
    if not own and (complete or incomplete):
        raise UserError(
            f"{run_dir}: none of its checkpoints can be resumed from; put the missing files back, or start anew with "
            "--overwrite"
        )
    say(f"resuming from {own[-1]}" if own else "no checkpoint was saved; starting from the first step")
    return own[-1] if own else None


def _check_readiness(readiness: Readiness, machine: Machine) -> list[dict[str, Any]]:
    """What must hold before the first step; raises UserError for the first that does not, in every process."""
    # The memory probe takes two steps, which is little on a card and much on a CPU, where memory can be swapped.
    thorough = readiness.recipe.preflight and machine.device == "cuda"
    checks = list(readiness.checks(thorough=thorough))
    failed = [found for found in gather_object([check.found for check in checks if not check.passed]) if found]
    if failed:
        raise UserError(failed[0])
    return [check.to_json() for check in checks]


def _run_trainer(trainer: RecipeTrainer, recipe: Recipe, checkpoint: Path | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{recipe.path}: the device ran out of memory; {less_memory(recipe)}") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(recipe.run_dir).free > FREE_BYTES_WHEN_FULL:
            raise
        raise UserError(
            f"{recipe.run_dir}: the disk is full; free some space and go on with: {recipe.resume_command()}"
        ) from error


def _results(trainer: RecipeTrainer, prepared: Prepared, until_ready: float, trained: float) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    seen = prepared.tokens["tokens"] * (trainer.state.epoch or 0)
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "seconds_to_first_step": round(until_ready, 2),
        "seconds_training": round(trained, 2),
        "tokens_per_second": round(seen / trained, 1) if trained else None,
        "peak_memory_gib": _peak_memory(),
    }


def _peak_memory() -> float | None:
    """Peak memory of this process in GiB: the allocator's on CUDA, resident on a CPU."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
