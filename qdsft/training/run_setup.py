"""Build a run. `train`, `preflight` and the tests all use these functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.launch import check_launch, check_running, refuse_sharding, waiting_for_processes, world_size
from qdsft.model.adapters import check_adapters
from qdsft.model.device import Machine, check_own_gpu, find_machine
from qdsft.model.device_errors import device_errors, smaller_weights
from qdsft.model.float16 import check_range
from qdsft.model.loading import load_config, load_model, load_tokenizer, stop_token_ids
from qdsft.model.template import has_fixed_date
from qdsft.recipe import Recipe
from qdsft.recipe.lora_init_keys import check_sharded_init
from qdsft.recipe.required_packages import check_optional_packages
from qdsft.recipe.saved_quantization import is_saved_quantized, with_saved_quantization
from qdsft.tokenization.chat_template import beyond_vocabulary
from qdsft.tokenization.prepared import Prepared, describe_data, prepare
from qdsft.tokenization.row_files import largest_token
from qdsft.training.build import CheckpointingChoice, build_arguments, build_trainer
from qdsft.training.checkpointing_choice import choose_checkpointing
from qdsft.training.decode_held_out import training_evaluation
from qdsft.training.installed_keys import check_installed_keys
from qdsft.training.optimizer_check import check_offload, check_optimizer
from qdsft.training.resume import template_day
from qdsft.training.trainer import RecipeTrainer


@dataclass(frozen=True)
class RunInputs:
    """The parts of a run that exist before its weights are loaded."""

    recipe: Recipe
    machine: Machine
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    template_date: date | None
    """The date that the chat template writes; None for a template that writes none."""
    stop_ids: list[int]
    """Token ids at which generation stops."""
    prepared: Prepared


@dataclass(frozen=True)
class Run:
    """A complete run before its first step."""

    inputs: RunInputs
    trainer: RecipeTrainer
    checkpointing: CheckpointingChoice | None
    """The choice of activation checkpointing; None if the recipe sets it to true or false."""


def join_launch(recipe: Recipe) -> Machine:
    """Check what the launcher started, connect this process to the others and return its device.

    Raises UserError for a launch that cannot train this recipe.
    """
    check_launch(quantized=recipe.quantization is not None)
    check_sharded_init(recipe)
    check_own_gpu()
    machine = find_machine()
    limit = timedelta(seconds=recipe.training_value("ddp_timeout"))
    with waiting_for_processes(limit):
        PartialState(cpu=machine.device_type == "cpu", timeout=limit)  # makes the process group, before TRL's arguments
    return machine


def prepare_run(recipe: Recipe, *, resume: bool = False) -> RunInputs:
    """Check the launch and the training arguments, then load the tokenizer and prepare the data.

    A chat template that writes the date writes today, or with `resume` the date on which the run began.
    Raises UserError for whatever the user can correct before the weights are loaded.
    """
    machine = join_launch(recipe)
    check_optional_packages(recipe)
    check_installed_keys(recipe)
    check_offload()
    # Contradictory values fail here, before minutes of data preparation.
    check_optimizer(recipe, build_arguments(recipe, machine))
    _say_device_and_batch(recipe, machine)
    day = template_day(recipe.run_dir, resume=resume)
    config, tokenizer = load_config(recipe), load_tokenizer(recipe, day)
    if is_saved_quantized(config.to_dict()):
        refuse_sharding()
        recipe = with_saved_quantization(recipe, config.to_dict())
        say("quantization: the base model is saved quantized, and is trained so")
    template_date = day if has_fixed_date(tokenizer.chat_template) else None
    if template_date:
        say(f"chat template: it writes the date, for this run always {template_date}")
    check_range(recipe, config, machine)
    if coverage := check_adapters(recipe, config):
        say(coverage.describe())
    stop_ids = stop_token_ids(recipe, tokenizer, config)
    with PartialState().local_main_process_first():  # the other processes read the cache
        prepared = prepare(recipe, tokenizer, stop_ids)
    for line in describe_data(prepared, recipe):
        say(line)
    _check_vocabulary(recipe, config, tokenizer, prepared)
    return RunInputs(recipe, machine, config, tokenizer, template_date, stop_ids, prepared)


def build_run(inputs: RunInputs, *, checkpoint: Path | None = None) -> Run:
    """Load the model and build the trainer.

    `checkpoint` is the one that training resumes from. Raises UserError for faults that show only once the model is
    loaded and the processes are connected.
    """
    recipe, machine, prepared = inputs.recipe, inputs.machine, inputs.prepared
    checkpointing = choose_checkpointing(recipe, machine, prepared.facts.tokens.longest, inputs.config)
    if checkpointing:
        say(checkpointing.line)
    # Keep the arguments alive: transformers reads from them whether to shard the weights as they load (ZeRO-3).
    arguments = build_arguments(recipe, machine, checkpointing=checkpointing, resumed=checkpoint is not None)
    model = load_model(recipe, machine, trainable=True, config=inputs.config)
    with device_errors(f"moving the model of {recipe.path} to the device", smaller_weights(recipe)):
        trainer = build_trainer(
            recipe, arguments, model, inputs.tokenizer, prepared.train, prepared.eval, checkpoint=checkpoint
        )
    check_running(
        processes=trainer.accelerator.num_processes,
        device=machine.device_type,
        deepspeed=trainer.is_deepspeed_enabled,
        fsdp=trainer.is_fsdp_enabled,
    )
    trainer.held_out = training_evaluation(recipe, prepared.folder, inputs.tokenizer, inputs.stop_ids)
    return Run(inputs, trainer, checkpointing)


def _check_vocabulary(
    recipe: Recipe, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, prepared: Prepared
) -> None:
    """Raise UserError for a token of the rows that has no embedding. A token that no row has may lack one."""
    size = config.get_text_config().vocab_size
    largest = max(largest_token(rows) for rows in (prepared.train, prepared.eval) if rows is not None)
    if largest >= size:
        raise UserError(
            f"{recipe.where('model.name_or_path')}: {recipe.model.name_or_path}: "
            f"{beyond_vocabulary(tokenizer, largest, size)}"
        )


def _say_device_and_batch(recipe: Recipe, machine: Machine) -> None:
    dtype = str(machine.choose_dtype(recipe.model.dtype)).removeprefix("torch.")
    differs = machine.differs(recipe.model.dtype)
    say(f"device: {machine.device_type} ({machine.name}), {dtype}{differs}, {world_size()} process(es)")
    steps = recipe.accumulation_steps(world_size())
    micro = recipe.training_value("per_device_train_batch_size")
    say(f"batch: {micro} x {steps} accumulation steps x {world_size()} process(es) = {micro * steps * world_size()}")
