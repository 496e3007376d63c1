"""Translate a recipe into TRL's SFTConfig and SFTTrainer. No other module sets a field of the SFTConfig."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from qdsft.errors import UserError, reason
from qdsft.launch import world_size
from qdsft.metrics.best_metric import check_best_metric
from qdsft.metrics.catalog import BY_KEY
from qdsft.model.adapters import decoder_lora_config, find_coverage
from qdsft.model.device import Machine
from qdsft.planning.way import Way
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import is_custom_loss
from qdsft.recipe.required_packages import default_report_to
from qdsft.recipe.sections import AUTO
from qdsft.runs.layout import LOG
from qdsft.training import cpu_loss
from qdsft.training.callbacks import EarlyStopping, JsonLog
from qdsft.training.decode_held_out import PREFIX
from qdsft.training.load_loss import load_custom_loss
from qdsft.training.lora_init import finish_initialization, resumed_config
from qdsft.training.push_checkpoints import PushCheckpoints
from qdsft.training.token_means import whole_batches
from qdsft.training.trainer import RecipeTrainer


@dataclass(frozen=True)
class CheckpointingChoice(Way):
    """Which layers a run recomputes."""

    line: str = ""
    """The line that reports the choice."""

    def to_json(self) -> dict[str, Any]:
        """Return the choice as run.json holds it."""
        return {"checkpointing": self.checkpointing, "every_n_layers": self.every_n_layers, "said": self.line}


OWN_KEYS = {"global_batch_size", "output_dir", "early_stopping_patience"}
"""Keys of the training section that `build_arguments` translates itself; all others are passed on unchanged."""


def build_arguments(
    recipe: Recipe,
    machine: Machine,
    *,
    processes: int | None = None,
    checkpointing: Way | None = None,
    resumed: bool = False,
) -> SFTConfig:
    """Return the SFTConfig of a recipe on this machine. Raises UserError for values that contradict each other.

    `checkpointing` is the choice for a recipe with activation_checkpointing "auto"; if it is None, every layer is
    checkpointed. `processes` defaults to the number that the launcher started. `resumed` skips the evaluation before
    the first step.
    """
    values = {key: value for key, value in recipe.training.items() if key not in OWN_KEYS}
    values.setdefault("report_to", default_report_to())
    values.setdefault("save_total_limit", recipe.training_value("save_total_limit"))
    if recipe.training_value("padding_free") and not recipe.packing:
        values["max_length"] = None  # the prepared rows keep to it; TRL, which does not know that, refuses it here
    if is_custom_loss(recipe):
        del values["loss_type"]  # build_trainer passes the function itself
    if machine.device_type == "cpu":
        _refuse_offloading(recipe)
    values |= _checkpointing(recipe, checkpointing) | _evaluation_schedule(recipe) | _best_model(recipe)
    if resumed:
        values["eval_on_start"] = False  # done before the first step of the interrupted run
    dtype = machine.choose_dtype(recipe.model.dtype)
    steps = recipe.accumulation_steps(processes or world_size())
    try:
        return SFTConfig(
            output_dir=str(recipe.run_dir),
            gradient_accumulation_steps=steps,
            bf16=dtype == torch.bfloat16,
            fp16=dtype == torch.float16,
            use_cpu=machine.device_type == "cpu",
            seed=recipe.seed,
            dataset_kwargs={"skip_prepare_dataset": True},
            # Every weight is used, and looking for unused ones walks the graph at every step.
            **{"completion_only_loss": True, "ddp_find_unused_parameters": False, **values},
        )
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UserError(f"{recipe.where('training')}: training: {reason(error)}") from error


def build_trainer(
    recipe: Recipe,
    arguments: SFTConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_data: Dataset,
    eval_data: Dataset | None,
    *,
    checkpoint: Path | None = None,
) -> RecipeTrainer:
    """Return a RecipeTrainer on datasets that are already tokenized, masked and packed (`prepared.Prepared`).

    `checkpoint` is what training resumes from: its adapter has initial values already.
    Raises UserError for what only the model can show, such as target_modules that it does not have.
    """
    scheduled = str(arguments.eval_strategy.value) != "no"
    if eval_data is None and (scheduled or arguments.eval_on_start):
        key = "training.eval_strategy" if scheduled else "training.eval_on_start"
        key = "evaluation.every_steps" if recipe.evaluation.every_steps else key
        raise UserError(
            f"{recipe.where(key)}: {key} needs held-out rows and there are none; raise data.eval_fraction, give "
            "data.eval, or remove it"
        )
    if arguments.use_cpu:
        cpu_loss.check_release()
    loss = load_custom_loss(recipe)
    peft_config = None if recipe.lora is None else decoder_lora_config(recipe, model)
    if peft_config is not None and checkpoint is not None:
        peft_config = resumed_config(peft_config, checkpoint)
    try:
        trainer = RecipeTrainer(
            model=model,
            args=arguments,
            train_dataset=train_data,
            eval_dataset=whole_batches(eval_data, arguments),
            processing_class=tokenizer,
            peft_config=peft_config,
            callbacks=[
                *_early_stopping(recipe),
                JsonLog(Path(arguments.output_dir) / LOG),
                *([PushCheckpoints(recipe)] if recipe.publish.push_checkpoints else []),
            ],
            compute_loss_func=loss,
        )
    except ValueError as error:  # such as target_modules that the model does not have
        raise UserError(f"{recipe.path}: {reason(error)}") from error
    if recipe.lora is not None:
        find_coverage(recipe, trainer.model)
    if arguments.fp16 or recipe.quantization:
        # TRL casts the adapters of a quantized base to bfloat16, in which most updates of lora_A round to nothing
        # (docs/benchmarks.md), and whose gradients the float16 scaler cannot unscale.
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
    finish_initialization(recipe, trainer, resumed=checkpoint is not None)
    return trainer


def _checkpointing(recipe: Recipe, choice: Way | None) -> dict[str, Any]:
    """Return the SFTConfig values of activation checkpointing, with "auto" replaced by the choice."""
    wanted = recipe.training_value("activation_checkpointing")
    if wanted != AUTO:
        return {"activation_checkpointing": wanted}
    if choice is None or not choice.checkpointing or choice.every_n_layers == 1:
        return {"activation_checkpointing": choice is None or choice.checkpointing}
    kwargs = recipe.training.get("activation_checkpointing_kwargs") or {}
    return {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {**kwargs, "every_n_layers": choice.every_n_layers},
    }


def _refuse_offloading(recipe: Recipe) -> None:
    """Raise UserError for a key that moves activations from a GPU to main memory, which fails on a CPU."""
    kwargs = recipe.training_value("activation_checkpointing_kwargs") or {}
    offloads = {
        "training.activation_offloading": recipe.training_value("activation_offloading"),
        "training.activation_checkpointing_kwargs": kwargs.get("offload"),
    }
    for key in (key for key, given in offloads.items() if given):
        raise UserError(
            f"{recipe.where(key)}: {key} moves activations from a GPU to main memory, and this run is on a CPU; remove "
            "it"
        )


def _best_model(recipe: Recipe) -> dict[str, Any]:
    """Return the SFTConfig values with which the best checkpoint is kept and found.

    Raises UserError for a metric that no evaluation has, and for early stopping that would not keep the checkpoint.
    """
    check_best_metric(recipe)
    values: dict[str, Any] = {}
    if recipe.training_value("early_stopping_patience"):
        if recipe.training.get("load_best_model_at_end") is False:
            raise UserError(
                f"{recipe.where('training.load_best_model_at_end')}: training.load_best_model_at_end contradicts "
                "training.early_stopping_patience, which keeps the best checkpoint; remove one of them"
            )
        values["load_best_model_at_end"] = True
    metric = BY_KEY.get(str(recipe.training_value("metric_for_best_model")).removeprefix(PREFIX))
    if metric and metric.better and "greater_is_better" not in recipe.training:
        values["greater_is_better"] = metric.better == "higher"  # transformers takes all but losses as higher
    return values


def _early_stopping(recipe: Recipe) -> list[EarlyStopping]:
    patience = recipe.training_value("early_stopping_patience")
    return [EarlyStopping(patience)] if patience else []


def _evaluation_schedule(recipe: Recipe) -> dict[str, Any]:
    """Return the SFTConfig values that evaluation.every_steps implies; empty if it is unset.

    Raises UserError if the training section contradicts them.
    """
    every = recipe.evaluation.every_steps
    if every is None:
        return {}
    schedule = {"eval_strategy": "steps", "eval_steps": every}
    for key, value in schedule.items():
        if recipe.training.get(key, value) != value:
            raise UserError(
                f"{recipe.where(f'training.{key}')}: training.{key} contradicts evaluation.every_steps {every}, which "
                "sets when to evaluate; remove one of them"
            )
    return {**schedule, "eval_on_start": recipe.training.get("eval_on_start", True)}
