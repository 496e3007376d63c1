"""Build the optimizer and the schedule over a few weights, and look for a compiler, before the model is loaded."""

from __future__ import annotations

import torch
from transformers import Trainer, get_scheduler
from trl import SFTConfig

from qdsft.errors import UserError, reason
from qdsft.launch import offloads_optimizer
from qdsft.planning.doctor.machine_checks import BUILD_TOOLS, missing_build_tools
from qdsft.recipe import Recipe

STEPS = 10
NEEDS_THE_MODEL = ("pass a model", "pass a `model`")
"""How transformers refuses to build GaLore, APOLLO and LOMO without a model, after it has imported their package."""


def check_optimizer(recipe: Recipe, arguments: SFTConfig) -> None:
    """Raise UserError for an optimizer that is not installed, and for arguments that it or the schedule refuses.

    Also for an optimizer that would be exchanged for another one if DeepSpeed keeps its states in main memory.
    """
    try:
        factory, keywords = Trainer.get_optimizer_cls_and_kwargs(arguments)
        optimizer = factory(torch.nn.Linear(2, 2).parameters(), **keywords)
    except (ImportError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if any(text in str(error) for text in NEEDS_THE_MODEL):
            return
        key = "training.optim_args" if arguments.optim_args else "training.optim"
        value = arguments.optim_args or arguments.optim.value
        raise UserError(f"{recipe.where(key)}: {key}: {value} is refused: {reason(error)}") from error
    if offloads_optimizer() and not isinstance(optimizer, torch.optim.AdamW):
        # accelerate would take DeepSpeed's Adam without decoupled weight decay, in 32 bits, and not say so.
        raise UserError(
            f"{recipe.where('training.optim')}: training.optim: {arguments.optim.value} cannot keep its states in main "
            "memory, where DeepSpeed runs its own AdamW; set training.optim=adamw_torch, or launch with "
            "accelerate_configs/zero3.yaml"
        )
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=1,
            num_training_steps=STEPS,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
    except (ValueError, TypeError) as error:
        key = "training.lr_scheduler_kwargs" if arguments.lr_scheduler_kwargs else "training.lr_scheduler_type"
        name = arguments.lr_scheduler_type.value
        raise UserError(f"{recipe.where(key)}: {key}: {name} refuses its arguments: {reason(error)}") from error


def check_offload() -> None:
    """Raise UserError if DeepSpeed is to keep the optimizer in main memory and cannot compile its Adam for that."""
    if offloads_optimizer() and (missing := missing_build_tools()):
        raise UserError(
            f"DeepSpeed compiles its Adam to keep the optimizer in main memory, and {', '.join(missing)} is missing; "
            f"{BUILD_TOOLS}, or launch with accelerate_configs/zero3.yaml"
        )
