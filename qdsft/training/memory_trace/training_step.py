"""Trace one optimizer step of training: forward, loss, backward, optimizer, scoring held-out rows."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import trl.trainer.utils
from torch.autograd.graph import _engine_run_backward
from transformers.trainer_pt_utils import LabelSmoother

from qdsft.planning.constants import SMALLEST_PAGED
from qdsft.planning.peak import ACTIVATIONS, ADAPTERS, GRADIENTS, LOSS, OPTIMIZER, PAGED, TEMPORARIES, WEIGHTS
from qdsft.training import cpu_loss
from qdsft.training.memory_trace.fake_model import FakeModel
from qdsft.training.memory_trace.live_storages import LiveStorages

FIRST, LAST = "backward pass of the first layer", "backward pass of the last layers"


@dataclass(frozen=True)
class Batch:
    """The rows of one call of the model."""

    rows: int
    length: int
    packed: bool
    """Whether samples are told apart by their positions, in a mask of [rows, 1, length, length]."""
    padded: bool
    """Whether a mask tells padding from tokens."""

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return fake token ids and what goes with them."""
        shape = (self.rows, self.length)
        found = {"input_ids": torch.zeros(shape, dtype=torch.long)}
        if self.packed:
            found["position_ids"] = torch.zeros(shape, dtype=torch.long)
        if self.padded:
            found["attention_mask"] = torch.ones(shape, dtype=torch.long)
        return found


@dataclass(frozen=True)
class Training:
    """What a step does besides the model."""

    batch: Batch
    scored: Batch | None
    """Held-out rows that training scores, if it does."""
    optimizer: tuple[Any, dict[str, Any]]
    """Class and arguments, as transformers chooses them."""
    autocast: torch.dtype | None
    accumulates: bool
    """Whether gradients of an earlier micro-batch are in memory."""
    cuda: bool
    master: bool = False
    """Whether the optimizer keeps float32 copies of 16-bit weights, as DeepSpeed's and FSDP2's do."""
    all_logits: bool = False
    """Whether the loss needs the logits of all positions, as label smoothing does."""
    paged: bool = False


class StepTrace:
    """Run a step of a fake model under a count of its storages."""

    def __init__(self, fake: FakeModel, training: Training, live: LiveStorages) -> None:
        self.fake, self.training, self.live = fake, training, live
        self._trained = [weight for weight in fake.model.parameters() if weight.requires_grad]
        self._hooks: list[Any] = []
        self._layers = fake.current_layers()

    def run(self) -> None:
        """Trace the step; results are in `live`."""
        live, training = self.live, self.training
        live.start("loading")
        count_weights(self.fake, live)
        try:
            self._hook()
            optimizer = self._make_optimizer()
            if not training.accumulates:
                self._zero_gradients()
            self._micro_batch()
            self._optimizer_step(optimizer)
            self._zero_gradients()
            if training.scored is not None:
                self._score(training.scored)
        finally:
            for hook in self._hooks:
                hook.remove()
            for weight in self._trained:
                weight.grad = None

    def _micro_batch(self) -> None:
        live = self.live
        live.start("forward pass")
        inputs = self.training.batch.inputs()
        labels = torch.zeros(self.training.batch.rows, self.training.batch.length, dtype=torch.long)
        with self._autocast():
            loss = self._loss(inputs, labels)
        # Tensor.backward would run without the modes that stand for CUDA, and recompute layers in other formats.
        ones = torch.ones_like(loss)
        _engine_run_backward((loss,), (ones,), False, False, (), allow_unreachable=True, accumulate_grad=True)
        live.tag = ACTIVATIONS

    def _loss(self, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        model = self.fake.model
        with ExitStack() as stack:
            if not self.training.cuda:
                stack.enter_context(cpu_loss.used_by_trl())
                # Which positions carry loss is not known: all of them do.
                stack.enter_context(patch.object(trl.trainer.utils, "_use_triton", lambda device: False))
            if self.training.all_logits:
                logits = {"logits": model(**inputs, use_cache=False).logits.float()}
                smooth: torch.Tensor = LabelSmoother(epsilon=0.1)(logits, labels, shift_labels=True)
                return smooth
            found = model(**inputs, labels=labels, fused_lm_head=True, use_cache=False)
        loss: torch.Tensor = -found.log_probs.sum() / labels.numel()
        aux = getattr(found, "aux_loss", None)
        return loss if aux is None else loss + aux

    def _score(self, batch: Batch) -> None:
        self.live.start("scoring held-out rows")
        self.fake.model.eval()
        labels = torch.zeros(batch.rows, batch.length, dtype=torch.long)
        with torch.no_grad(), self._autocast():
            self._loss(batch.inputs(), labels)
        self.fake.model.train()
        self.live.tag = ACTIVATIONS

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = self.training.autocast
        return nullcontext() if dtype is None else torch.autocast("cpu", dtype)

    def _hook(self) -> None:
        """Have the phases told apart: the decoder's end, each layer's backward pass, each finished gradient."""
        live = self.live

        def begin_loss(*_: Any) -> None:
            live.start("loss")
            live.tag = LOSS

        def watch(module: Any, _: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if isinstance(hidden, torch.Tensor) and hidden.requires_grad:
                name = FIRST if module is self._layers[0] else LAST
                hidden.register_hook(lambda _: self._begin_layer(name))  # type: ignore[no-untyped-call]

        self._hooks.append(self.fake.decoder.register_forward_hook(begin_loss))
        self._hooks += [layer.register_forward_hook(watch) for layer in self._layers]
        for weight in self._trained:
            self._hooks.append(weight.register_post_accumulate_grad_hook(lambda w: live.retag([w.grad], GRADIENTS)))

    def _begin_layer(self, phase: str) -> None:
        self.live.tag = ACTIVATIONS
        if self.live.phase != phase:
            self.live.start(phase)

    def _make_optimizer(self) -> Any:
        """Return the optimizer with its states, which a first step made."""
        live, (kind, arguments) = self.live, self.training.optimizer
        live.start("optimizer step")
        with live.tagged(GRADIENTS):
            for weight in self._trained:
                weight.grad = torch.zeros_like(weight)
        self._stepped = self._trained
        if self.training.master:
            with live.tagged(OPTIMIZER):
                self._stepped = [torch.nn.Parameter(weight.detach().float()) for weight in self._trained]
                live.retag(self._stepped, OPTIMIZER)
        optimizer = kind(self._stepped, **arguments)
        for group in optimizer.param_groups:
            if "foreach" in group and group["foreach"] is None and not group.get("fused"):
                group["foreach"] = True  # PyTorch's own choice on CUDA
        self._optimizer_step(optimizer)
        for weight in self._stepped:
            states = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor)]
            paged = self.training.paged and weight.numel() >= SMALLEST_PAGED
            live.retag(states, OPTIMIZER)
            if paged:
                live.retag([state for state in states if state.numel() >= weight.numel()], PAGED)
        live.forget("optimizer step")
        return optimizer

    def _optimizer_step(self, optimizer: Any) -> None:
        self.live.start("optimizer step")
        with self.live.tagged(TEMPORARIES):
            if self.training.master:
                for copy, weight in zip(self._stepped, self._trained, strict=True):
                    copy.grad = weight.grad.float()
            optimizer.step()
            if self.training.master:
                for copy in self._stepped:
                    copy.grad = None

    def _zero_gradients(self) -> None:
        for weight in self._trained:
            weight.grad = None


def count_weights(fake: FakeModel, live: LiveStorages) -> None:
    """Count the weights of the current model."""
    adapted = fake.recipe.lora is not None
    for tensor, trained in fake.storages():
        live.add(tensor, ADAPTERS if trained and adapted else WEIGHTS)
