"""Compute the loss on a CPU from the supervised positions alone, and each logit once; sums are in float32.

TRL's own function (`trl.kernels.ChunkedLogProbFunction`) computes each tile of logits twice, once forward and once
backward, and on a CPU reads it from memory some twenty times. Here the forward pass also sums the softmax-weighted rows
of the head, `softmax(logits) @ weight`. The gradient of the hidden states is then a subtraction, and the entropy a dot
product. If the head is trained and has few logits, the logits are kept for its gradient; otherwise they are computed
again, tile by tile. A head in bfloat16 that is not trained is multiplied in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import trl.trainer.utils
from trl.kernels import ChunkedLogProbFunction

from qdsft.errors import UserError

TRL_RELEASE = "1.16"
"""The release, with any patch number, whose private functions `used_by_trl` replaces."""
TILE = 2**22
"""Logits that are computed at once (16 MiB). Measured: narrower tiles are slower."""
KEPT = 2**26
"""Largest number of logits that are kept for the gradient of the head (256 MiB)."""
HALF = torch.bfloat16
"""The dtype, besides float32, of a head that is multiplied here."""

Fields = tuple[torch.Tensor, torch.Tensor | None, None, None, torch.Tensor | None]
"""Log-probabilities, entropy, two fields that SFTTrainer does not request, and whether the target is the top token."""


class SupervisedLogProbs(torch.autograd.Function):
    """Compute log softmax(hidden @ weight.T) at the targets as TRL does: [positions, ...] -> [positions]."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, scale: float) -> Fields:
        """Take `hidden` [positions, width], `weight` [vocabulary, width] and `targets` [positions]; scale logits."""
        ctx.set_materialize_grads(False)
        positions, vocabulary = hidden.shape[0], weight.shape[0]
        ctx.hidden_dtype, half = hidden.dtype, weight.dtype == HALF
        factor = (hidden * scale if scale != 1 else hidden).to(weight.dtype)
        scaled = factor.float()
        keep = ctx.needs_input_grad[1] and positions * vocabulary <= KEPT
        width = vocabulary if keep else tile_width(positions, vocabulary)
        buffer = scaled.new_empty(positions * width)
        largest = scaled.new_full((positions, 1), -torch.inf)
        total = scaled.new_zeros((positions, 1))
        rows = torch.zeros_like(scaled)  # sum of exp(logit) times the head's row, over the tiles so far
        for start in range(0, vocabulary, width):
            part = weight[start : start + width]
            tile = buffer[: positions * part.shape[0]].view(positions, part.shape[0])
            if half:
                tile.copy_(factor @ part.T)
            else:
                torch.mm(factor, part.T, out=tile)
            previous, largest = largest, torch.maximum(largest, tile.amax(dim=1, keepdim=True))
            tile.sub_(largest).exp_()
            shrink = (previous - largest).exp_()
            total.mul_(shrink).add_(tile.sum(dim=1, keepdim=True))
            rows.mul_(shrink)
            if half:
                rows.add_(tile.to(part.dtype) @ part)
            else:
                rows.addmm_(tile, part)
        rows.div_(total)
        log_total = total.log().add_(largest)
        wanted = weight[targets].float()
        at_target = (scaled * wanted).sum(dim=1, keepdim=True)
        log_probs = at_target - log_total
        entropy = log_total - (scaled * rows).sum(dim=1, keepdim=True)
        # The same logit summed in another order: equal up to the rounding of both.
        is_top1 = at_target >= largest - (1e-2 if half else 1e-5) * largest.abs().clamp_(min=1)
        slopes = wanted.sub_(rows).mul_(scale)
        ctx.save_for_backward(slopes, scaled, weight, targets, buffer.view(positions, -1) if keep else log_total, total)
        ctx.keep, ctx.width = keep, width
        ctx.mark_non_differentiable(entropy, is_top1)
        return log_probs[:, 0], entropy[:, 0], None, None, is_top1[:, 0]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of `hidden` and `weight`."""
        if gradient is None:
            return None, None, None, None
        slopes, scaled, weight, targets, kept, total = ctx.saved_tensors
        gradient = gradient[:, None]
        hidden_gradient = (gradient * slopes).to(ctx.hidden_dtype) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return hidden_gradient, None, None, None
        pushed = scaled * gradient
        weight_gradient = torch.empty_like(weight)
        if ctx.keep:
            torch.mm(kept.T, pushed.div(total).neg_(), out=weight_gradient)
        else:
            for start in range(0, weight.shape[0], ctx.width):
                part = weight[start : start + ctx.width]
                probabilities = torch.mm(scaled, part.T).sub_(kept).exp_()
                torch.mm(probabilities.T, pushed.neg(), out=weight_gradient[start : start + ctx.width])
        weight_gradient.index_add_(0, targets, pushed)
        return hidden_gradient, weight_gradient, None, None


def tile_width(positions: int, vocabulary: int) -> int:
    """Return the number of columns in a tile of logits of this many positions."""
    return min(max(TILE // max(positions, 1), 1024), vocabulary)


class LogProbs:
    """Replace TRL's function: call ours where it computes the same, and TRL's otherwise."""

    @staticmethod
    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        outputs: tuple[str, ...] = (),
    ) -> Any:
        """Take the arguments and return the results of `ChunkedLogProbFunction.apply`."""
        full = hidden.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        half = weight.dtype == HALF and not weight.requires_grad
        ours = (
            hidden.device.type == "cpu"
            and (full or half)
            and torch.is_grad_enabled()
            and bias is None
            and softcap is None
            and set(outputs) <= {"log_probs", "entropy", "is_top1"}
        )
        if ours:
            return SupervisedLogProbs.apply(hidden, weight, targets, logit_scale / temperature)  # type: ignore[no-untyped-call]
        return ChunkedLogProbFunction.apply(
            hidden, weight, bias, targets, temperature, chunk_size, softcap, logit_scale, outputs
        )


def check_release() -> None:
    """Raise UserError unless the installed TRL is the release that `used_by_trl` patches."""
    if trl.__version__.split(".")[:2] != TRL_RELEASE.split("."):
        raise UserError(
            f"trl {trl.__version__} is installed, and training on a CPU patches trl {TRL_RELEASE}; "
            f"pip install 'trl=={TRL_RELEASE}.*'"
        )


@contextmanager
def used_by_trl() -> Iterator[None]:
    """Have TRL compute losses with `LogProbs`, and from the supervised positions alone, inside this block.

    On a CPU TRL projects every position onto the vocabulary, to keep shapes fixed for devices that compile each shape.
    """
    utils = trl.trainer.utils
    originals = utils._use_triton, utils._ChunkedLogProbFunction
    utils._use_triton, utils._ChunkedLogProbFunction = lambda device: True, LogProbs
    try:
        yield
    finally:
        utils._use_triton, utils._ChunkedLogProbFunction = originals
