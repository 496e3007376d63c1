"""Refuse keys that another value of the same recipe switches off, which upstream ignores without a message."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdsft.errors import UserError
from qdsft.recipe.recipe import COMMAND_LINE, Recipe
from qdsft.recipe.schema import section_schema


@dataclass(frozen=True)
class Need:
    """What `keys` need of another key to have an effect."""

    keys: str
    """Names separated by blanks, in the section of `key` unless they name another."""
    key: str
    """`section.key` that decides."""
    works: Callable[[Any], bool]
    """Return whether the keys have an effect beside this value."""
    remedy: str


def _has(*names: str) -> Callable[[Any], bool]:
    """Return a test of whether report_to names one of these trackers, or all that are installed."""
    return lambda value: bool({*names, "all"} & {*([value] if isinstance(value, str) else value or ())})


def _lacks(pattern: str) -> Callable[[Any], bool]:
    return lambda value: re.search(pattern, value) is None


TRAINING = (
    Need("eval_steps", "training.eval_strategy", lambda value: value == "steps", "set eval_strategy: steps"),
    Need(
        "eval_delay metric_for_best_model", "training.eval_strategy", lambda value: value != "no", "set eval_strategy"
    ),
    Need(
        "early_stopping_patience",
        "training.eval_strategy",
        lambda value: value != "no",
        "set evaluation.every_steps or eval_strategy",
    ),
    Need("save_steps", "training.save_strategy", lambda value: value == "steps", "set save_strategy: steps"),
    Need("logging_steps", "training.logging_strategy", lambda value: value == "steps", "set logging_strategy: steps"),
    Need(
        "dataloader_prefetch_factor dataloader_persistent_workers dataloader_multiprocessing_context "
        "dataloader_in_order",
        "training.dataloader_num_workers",
        bool,
        "set dataloader_num_workers",
    ),
    Need(
        "activation_checkpointing_kwargs",
        "training.activation_checkpointing",
        lambda value: value is not False,
        "set activation_checkpointing: true",
    ),
    Need("liger_kernel_config", "training.use_liger_kernel", bool, "set use_liger_kernel: true"),
    Need("packing_strategy", "training.packing", bool, "set packing: true"),
    Need(
        "project trackio_space_id trackio_bucket_id trackio_static_space_id",
        "training.report_to",
        _has("trackio"),
        "set report_to: trackio",
    ),
    Need(
        "run_name",
        "training.report_to",
        _has("azure_ml", "comet_ml", "mlflow", "neptune", "swanlab", "trackio", "wandb"),
        "set report_to to a tracker that names its runs, such as wandb",
    ),
    Need(
        "optim_target_modules",
        "training.optim",
        lambda value: re.match("galore|apollo", value) is not None,
        "choose a GaLore or APOLLO optimizer",
    ),
    Need(
        "adam_beta1 adam_beta2",
        "training.optim",
        _lacks("sgd|adagrad|rmsprop|adafactor|lomo|grokadamw|galore"),
        "choose an Adam optimizer",
    ),
    Need(
        "adam_epsilon",
        "training.optim",
        _lacks("sgd|adagrad|rmsprop|adafactor|lomo|grokadamw|galore|lion"),
        "choose an Adam optimizer",
    ),
    Need(
        "warmup_steps",
        "training.lr_scheduler_type",
        lambda value: value not in {"constant", "reduce_lr_on_plateau", "greedy"},
        "choose a schedule that warms up, such as constant_with_warmup",
    ),
    Need("label_smoothing_factor", "training.loss_type", lambda value: value == "nll", "set loss_type: nll"),
    Need("data.overlength", "training.max_length", lambda value: value is not None, "set training.max_length"),
    Need("evaluation.samples", "evaluation.every_steps", lambda value: value is not None, "set every_steps"),
    Need("evaluation.retrieval", "evaluation.every_steps", lambda value: value is not None, "set every_steps"),
)
LORA = (
    Need("eva_config", "lora.init_lora_weights", lambda value: value == "eva", "set init_lora_weights: eva"),
    Need("layers_pattern", "lora.layers_to_transform", lambda value: value is not None, "set layers_to_transform"),
    Need(
        "layers_to_transform",
        "lora.target_modules",
        lambda value: not isinstance(value, str),
        "make target_modules a list of names",
    ),
)
QUANTIZATION = (
    Need("llm_int8_threshold llm_int8_has_fp16_weight", "quantization.load_in_8bit", bool, "set load_in_8bit: true"),
    Need(
        "bnb_4bit_compute_dtype bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_quant_storage",
        "quantization.load_in_4bit",
        bool,
        "set load_in_4bit: true",
    ),
)


def check_idle_keys(recipe: Recipe) -> None:
    """Raise UserError for the first key that has no effect because of another one.

    A key of the file that only an override on the command line switches off is accepted: the override is meant.
    """
    for need in (*TRAINING, *LORA, *QUANTIZATION):
        for key in need.keys.split():
            name = key if "." in key else f"{need.key.partition('.')[0]}.{key}"
            if _is_set(recipe, name) and not need.works(_value(recipe, need.key)):
                if recipe.origin(need.key) == COMMAND_LINE != recipe.origin(name):
                    continue
                value = json.dumps(_value(recipe, need.key))
                idle = f"{name} has no effect while {need.key} is {value}"
                raise UserError(f"{recipe.where(name)}: {idle}; {need.remedy}, or remove it")
    _check_best_model(recipe)
    _check_named(recipe, "training.optim_args", "training.optim", _optimizer_arguments(recipe))
    _check_named(recipe, "training.lr_scheduler_kwargs", "training.lr_scheduler_type", _schedule_arguments(recipe))
    _check_sources(recipe)


def _value(recipe: Recipe, key: str) -> Any:
    section, name = key.split(".")
    if key == "training.eval_strategy" and recipe.evaluation.every_steps:
        return "steps"
    content = getattr(recipe, section)
    if not isinstance(content, Mapping | None):
        return getattr(content, name)
    return (content or {}).get(name, section_schema(section)[name].get("default"))


def _is_set(recipe: Recipe, key: str) -> bool:
    section, name = key.split(".")
    if getattr(recipe, section) is None:
        return False
    return bool(_value(recipe, key) != section_schema(section)[name].get("default"))


def _check_best_model(recipe: Recipe) -> None:
    """Raise UserError if greater_is_better is set and no metric is compared."""
    compared = (
        recipe.training_value("metric_for_best_model"),
        recipe.training_value("load_best_model_at_end"),
        recipe.training_value("early_stopping_patience"),
        recipe.training_value("lr_scheduler_type") in {"reduce_lr_on_plateau", "greedy"},
    )
    if _is_set(recipe, "training.greater_is_better") and not any(compared):
        raise UserError(
            f"{recipe.where('training.greater_is_better')}: training.greater_is_better has no effect without a metric; "
            "set training.metric_for_best_model, or remove it"
        )


def _check_named(recipe: Recipe, key: str, governor: str, given: Mapping[str, Any]) -> None:
    """Raise UserError for the first name in `key` that the chosen optimizer or schedule does not take."""
    chosen = _value(recipe, governor)
    taken = section_schema("training")[key.partition(".")[2]]["x-read-by"].get(chosen, [])
    for name in given:
        if name not in taken:
            options = f"takes {', '.join(taken)}" if taken else "takes none"
            raise UserError(
                f"{recipe.where(key)}: {key}: {chosen} does not take {name}; it {options}; correct or remove it"
            )


def _optimizer_arguments(recipe: Recipe) -> dict[str, str]:
    """Return what optim_args (`name=value,name=value`) sets, read as transformers does."""
    pairs = {}
    for part in (recipe.training_value("optim_args") or "").replace(" ", "").split(","):
        name, equals, value = part.partition("=")
        if part and not (equals and name and value):
            raise UserError(
                f"{recipe.where('training.optim_args')}: training.optim_args: {part!r} is not name=value; write "
                "name=value pairs separated by commas"
            )
        if part:
            pairs[name] = value
    return pairs


def _schedule_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return lr_scheduler_kwargs, which may be a section or JSON text."""
    given = recipe.training_value("lr_scheduler_kwargs") or {}
    if isinstance(given, dict):
        return given
    try:
        values = json.loads(given)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        where = recipe.where("training.lr_scheduler_kwargs")
        raise UserError(f"{where}: training.lr_scheduler_kwargs is not a JSON object; write it as a mapping")
    return values


def _check_sources(recipe: Recipe) -> None:
    """Raise UserError for a key of Hub models or datasets beside a local one."""
    model, data = recipe.model, recipe.data
    local = {
        "model.revision": model.revision is not None and Path(model.name_or_path).is_dir(),
        "data.revision": data.revision is not None and all(map(os.path.isfile, data.train_paths)),
        "data.train_split": data.train_split != "train" and all(map(os.path.isfile, data.train_paths)),
        "data.eval_split": data.eval_split != "validation" and (data.eval is None or Path(data.eval).is_file()),
    }
    for key in (key for key, idle in local.items() if idle):
        raise UserError(f"{recipe.where(key)}: {key} has no effect without a Hub model or dataset; remove it")
