"""Stop training at the first loss, gradient or weight that is not finite, before a checkpoint is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qdsft.errors import UserError
from qdsft.model.checked_weights import is_finite
from qdsft.runs.checkpoints import complete_checkpoints
from qdsft.training.callbacks import in_any_process

FLOAT16_SKIPS = 20
"""Steps in a row that may be skipped under float16: its loss scale starts at 2**16 and halves at each overflow."""


class NonFiniteStop:
    """Watches the loss of each micro-batch and the gradient norm of each optimizer step of a trainer."""

    def __init__(self) -> None:
        self._loss: torch.Tensor | None = None
        """Sum of the losses since the last optimizer step: not finite if one of them is not."""
        self._skipped = 0

    def add_loss(self, loss: torch.Tensor) -> None:
        """Note the loss of a micro-batch, without waiting for the device."""
        value = loss.detach().float()
        self._loss = value if self._loss is None else self._loss + value

    def check_step(self, trainer: Any, norm: Any) -> None:
        """Raise UserError, in every process, if a loss or the gradient norm of this optimizer step is not finite.

        Without DeepSpeed, which steps during the backward pass, the weights have not changed yet.
        """
        loss, self._loss = self._loss, None
        value = torch.tensor(0.0) if loss is None else loss
        bad_loss = not is_finite(value)
        bad_norm = norm is not None and not is_finite(torch.as_tensor(norm, dtype=torch.float32))
        if not in_any_process(bad_loss or bad_norm, trainer.args):
            self._skipped = 0
            return
        self._skipped += 1
        if trainer.args.fp16 and self._skipped <= FLOAT16_SKIPS:  # the loss scaler skips this step
            return
        found = f"the loss is {value.item()}" if bad_loss else f"the gradient norm is {float(norm or 0.0)}"
        if not bad_loss and not bad_norm:
            found = "the loss or the gradient norm of another process is not finite"
        raise UserError(f"step {trainer.state.global_step + 1}: {found}{self._under_float16()}; {_remedy(trainer)}")

    def check_weights(self, trainer: Any) -> None:
        """Raise UserError, in every process, if a trained weight is not finite."""
        trained = [(name, weight) for name, weight in trainer.model.named_parameters() if weight.requires_grad]
        bad = [name for name, weight in trained if not is_finite(_local(weight))]
        if in_any_process(bool(bad), trainer.args):
            name = bad[0] if bad else "a weight of another process"
            raise UserError(f"step {trainer.state.global_step}: {name} holds NaN or infinity; {_remedy(trainer)}")

    def _under_float16(self) -> str:
        return f", and {self._skipped - 1} steps before it were skipped (float16)" if self._skipped > 1 else ""


def _local(weight: Any) -> torch.Tensor:
    """Return the part of a weight that this process holds."""
    part: torch.Tensor = getattr(weight, "ds_tensor", weight)
    return part.to_local() if hasattr(part, "to_local") else part


def _remedy(trainer: Any) -> str:
    complete, _ = complete_checkpoints(Path(trainer.args.output_dir))
    kept = f"{complete[-1]} is the last good checkpoint" if complete else "no checkpoint was saved before"
    format_remedy = "model.dtype: bfloat16 or float32" if trainer.args.fp16 else "a longer training.warmup_steps"
    return (
        f"try a lower training.learning_rate (now {trainer.args.learning_rate:g}), a lower training.max_grad_norm or "
        f"{format_remedy}; {kept}"
    )
