"""Trace the live tensor memory of real models, operation by operation. Fake tensors have sizes and no contents.

Stands apart from the memory model on purpose: nothing here knows its formulas.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the storages that operations create while they live, without those in `known`."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._live: dict[int, Any] = {tensor.untyped_storage()._cdata: None for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            return
        self._live[key] = weakref.ref(storage, lambda _: self._free(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        if self._live.pop(key, None) is not None:
            self.now -= size


@dataclass
class Trace:
    """Bytes of one forward and backward pass, without the output head, the weights and their gradients."""

    kept: int
    """Bytes alive at the end of the forward pass."""
    peak: int


def trace(
    config: dict[str, Any],
    *,
    weights: torch.dtype,
    adapters: torch.dtype | None,
    autocast: bool,
    checkpointing: bool,
    rows: int = 1,
    length: int = 1024,
    attention: str = "sdpa",
    dequantize: bool = False,
    **lora: Any,
) -> Trace:
    """Run a model of a config.json on `rows` rows of `length` tokens; `adapters` None trains all weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(**config), dtype=weights, attn_implementation=attention
            )
            if adapters is not None:
                values = {"r": 16, "target_modules": "all-linear", "lora_dropout": 0.0, **lora}
                model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **values))
        with FakeTensorMode(allow_non_fake_inputs=True):
            known = _materialize(model, adapters)
            model.train()
            if dequantize:
                dequantize_frozen_layers(model)
            if checkpointing:
                model.gradient_checkpointing_enable()
                if adapters is not None:
                    model.enable_input_require_grads()
            base = model.get_base_model() if adapters is not None else model
            context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
            return _passes(getattr(base, base.base_model_prefix), known, context, rows, length)


class Dequantized(torch.autograd.Function):
    """A frozen linear layer that de-quantizes its weight for each product, as bitsandbytes does in 4 bits."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.weight = weight
        return torch.nn.functional.linear(inputs, torch.empty_like(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return torch.matmul(gradient, torch.empty_like(ctx.weight)), None


def dequantize_frozen_layers(model: torch.nn.Module) -> None:
    """Replace each frozen linear layer by such a layer."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.forward = partial(_product, module)  # type: ignore[method-assign]


def _product(module: torch.nn.Linear, inputs: torch.Tensor) -> Any:
    product = Dequantized.apply(inputs.to(module.weight.dtype), module.weight)  # type: ignore[no-untyped-call]
    return product if module.bias is None else product + module.bias


def _passes(
    backbone: Any, known: list[torch.Tensor], context: AbstractContextManager[Any], rows: int, length: int
) -> Trace:
    ids = torch.zeros(rows, length, dtype=torch.long)
    positions = torch.arange(length)[None].expand(rows, length)
    with LiveBytes(known) as live:
        with context:
            hidden = [backbone(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state]
        kept = live.now
        gradient = torch.zeros_like(hidden[0])
        torch.autograd.backward([hidden.pop()], [gradient])
    return Trace(kept, live.peak)


def trace_function(function: Callable[[], Any], known: list[torch.Tensor]) -> int:
    """Return the peak bytes of the tensors that a function creates."""
    with LiveBytes(known) as live:
        function()
    peak: int = live.peak
    return peak


def _materialize(model: torch.nn.Module, adapters: torch.dtype | None) -> list[torch.Tensor]:
    """Give every weight a fake storage, and its gradient one too, as in the second micro-batch of a step."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is None:
                continue
            if id(weight) not in made:
                dtype = adapters if adapters is not None and weight.requires_grad else weight.dtype
                fresh = torch.nn.Parameter(torch.empty(weight.shape, dtype=dtype), requires_grad=weight.requires_grad)
                fresh.grad = torch.zeros_like(fresh) if fresh.requires_grad else None
                made[id(weight)] = fresh
            module._parameters[name] = made[id(weight)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return [*made.values(), *(weight.grad for weight in made.values() if weight.grad is not None)]
