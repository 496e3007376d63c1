"""A recipe's own model on fake tensors: quantized, with its adapters, and with any selection of its layers."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import bitsandbytes.functional
import peft.tuners.lora.dora
import torch
from bitsandbytes.nn.modules import Linear8bitLt, Params4bit
from peft import get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.quantizers.auto import AutoHfQuantizer
from trl.trainer.utils import add_fused_lm_head

from qdsft.model.adapters import decoder_layers, decoder_lora_config
from qdsft.model.device import Machine
from qdsft.model.quantization import keep_quantized_weights, quantization_config
from qdsft.planning.peak import Sizes
from qdsft.recipe import Recipe
from qdsft.training.memory_trace.cuda_semantics import dequantized

TRACED_AS_SDPA = {"flash_attention_2", "flash_attention_3", "flex_attention", "auto"}
"""Kernels that cannot be traced. FlashAttention keeps the same tensors as SDPA without a mask."""


class FakeModel:
    """A model whose weights have sizes and no contents."""

    def __init__(
        self, recipe: Recipe, config: PretrainedConfig, machine: Machine, *, trainable: bool, sharded: bool = False
    ) -> None:
        """Build the model on the meta device. Raises UserError for adapters that do not fit it."""
        dtype = machine.choose_dtype(recipe.model.dtype)
        if trainable and recipe.lora is None and not sharded:
            dtype = torch.float32
        self.recipe, self.dtype = recipe, dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = _build(recipe, config, machine, dtype)
            self.base = self.model
            parameters = sum(weight.numel() for weight in self.base.parameters())
            if recipe.lora is not None:
                self.model = _adapt(recipe, self.model, sharded=sharded)
        self.model.train(trainable)
        if trainable:
            add_fused_lm_head(self.base, outputs=("log_probs", "entropy", "is_top1"))
        name = decoder_layers(self.base)
        parent, _, self._name = name.rpartition(".")
        self._parent: Any = self.base.get_submodule(parent)
        self.layers: list[Any] = list(getattr(self._parent, self._name))
        self.decoder: Any = self.base.get_decoder()
        self._text = self.base.config.get_text_config()
        lists = {key: value for key, value in vars(self._text).items() if isinstance(value, list | tuple)}
        self._lists = {key: list(value) for key, value in lists.items() if len(value) == len(self.layers)}
        # Taken now: a quantized weight has another shape once it has a fake storage.
        self._shapes = [
            (type(layer), *((name, w.shape, w.dtype, w.requires_grad) for name, w in layer.named_parameters()))
            for layer in self.layers
        ]
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.sizes = self._sizes(parameters)
        self._made: dict[int, torch.nn.Parameter] = {}
        self._kept: list[Any] = []

    def _sizes(self, parameters: int) -> Sizes:
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        layers = [
            sum(w.numel() for name, w in layer.named_parameters() if ".lora_" not in name) for layer in self.layers
        ]
        return Sizes(
            parameters=parameters,
            trained=sum(weight.numel() for weight in trained),
            trained_bytes=sum(weight.numel() * weight.element_size() for weight in trained),
            layer=max(layers),
            outside_layers=parameters - sum(layers),
        )

    def recompute(self, checkpointing: bool, kwargs: dict[str, Any]) -> None:
        """Set which layers are recomputed in the backward pass."""
        if not checkpointing:
            self.model.activation_checkpointing_disable()
            return
        self.model.activation_checkpointing_enable(**kwargs)
        if self.recipe.lora is not None:
            self.model.enable_input_require_grads()

    def kinds(self) -> list[list[int]]:
        """Return the layers that are alike, each by its number."""
        found: dict[Any, list[int]] = {}
        for number, layer in enumerate(self.layers):
            facts = tuple(tuple(value[number : number + 1]) for value in self._lists.values())
            recomputed = getattr(layer, "gradient_checkpointing", False)
            found.setdefault((str(facts), self._shapes[number], recomputed), []).append(number)
        return list(found.values())

    @contextmanager
    def stack(self, numbers: Sequence[int]) -> Iterator[None]:
        """Use only these layers inside, in fake mode."""
        try:
            self._arrange(numbers)
            self._materialize()
            for weight in self.model.parameters():
                weight.grad = None
            yield
        finally:
            self._arrange(range(len(self.layers)))

    def _arrange(self, numbers: Sequence[int]) -> None:
        setattr(self._parent, self._name, torch.nn.ModuleList([self.layers[number] for number in numbers]))
        self._text.num_hidden_layers = len(numbers)
        for key, value in self._lists.items():
            setattr(self._text, key, [value[number] for number in numbers])
        for place, number in enumerate(numbers):
            for module in self.layers[number].modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx = place

    def current_layers(self) -> list[Any]:
        """Return the layers that are in use."""
        return list(getattr(self._parent, self._name))

    def storages(self) -> Iterator[tuple[torch.Tensor, bool]]:
        """Yield every tensor of the current model, and whether it is trained."""
        for weight in self.model.parameters():
            yield weight, weight.requires_grad
            if (state := getattr(weight, "quant_state", None)) is not None:
                yield from ((tensor, False) for tensor in _state_tensors(state))
        for module in self.model.modules():
            if isinstance(module, Linear8bitLt):
                assert module.state.SCB is not None
                yield module.state.SCB, False
        for buffer in self.model.buffers():
            yield buffer, False

    def _materialize(self) -> None:
        for module in self.model.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None and weight.is_meta:
                    if id(weight) not in self._made:
                        self._made[id(weight)] = self._weight(module, weight)
                        self._kept.append(weight)  # keeps its id from being used again
                    module._parameters[name] = self._made[id(weight)]
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.is_meta:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)

    def _weight(self, module: Any, weight: Any) -> torch.nn.Parameter:
        fresh = torch.empty(weight.shape, dtype=weight.dtype)
        if isinstance(weight, Params4bit):
            packed, state = bitsandbytes.functional.quantize_4bit(
                fresh.to(self.dtype),
                blocksize=weight.blocksize,
                compress_statistics=weight.compress_statistics,
                quant_type=weight.quant_type,
            )
            made = torch.nn.Parameter(packed, requires_grad=False)
            made.quant_state = module.quant_state = state  # type: ignore[attr-defined]
            made.bnb_quantized = True  # type: ignore[attr-defined]
            return made
        if isinstance(module, Linear8bitLt) and weight is module.weight:
            made = torch.nn.Parameter(torch.empty(weight.shape, dtype=torch.int8), requires_grad=False)
            made.CB = made.SCB = None  # type: ignore[attr-defined]
            module.state.CB, module.state.SCB = made.data, torch.empty(weight.shape[0])
            module.state.threshold = 0.0  # the number of outliers depends on the values
            return made
        return torch.nn.Parameter(fresh, requires_grad=weight.requires_grad)


def _build(recipe: Recipe, config: PretrainedConfig, machine: Machine, dtype: torch.dtype) -> Any:
    wanted = recipe.model.attn_implementation
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            attn_implementation=None if wanted in TRACED_AS_SDPA else wanted,
            trust_remote_code=recipe.model.trust_remote_code,
        )
    if recipe.quantization:
        quantizer = AutoHfQuantizer.from_config(quantization_config(recipe, machine), pre_quantized=False)
        quantizer.preprocess_model(model=model, device_map={"": "cpu"}, dtype=dtype)
        quantizer.postprocess_model(model)
        keep_quantized_weights(model)
    return model


def _adapt(recipe: Recipe, model: Any, *, sharded: bool) -> Any:
    """Add the adapters: in float32, as PEFT makes them, except in a model that is sharded and not quantized."""
    config = dataclasses.replace(decoder_lora_config(recipe, model), init_lora_weights=True, eva_config=None)
    with (
        patch.object(peft.tuners.lora.dora, "dequantize_module_weight", dequantized),
        patch.object(Params4bit, "__deepcopy__", lambda weight, _: weight),
        patch.object(torch.nn.init, "kaiming_uniform_", lambda weight, **_: weight),  # there are no values to set
    ):
        adapted = get_peft_model(model, config, autocast_adapter_dtype=bool(recipe.quantization) or not sharded)
    return adapted


def _state_tensors(state: Any) -> Iterator[torch.Tensor]:
    for tensor in (state.absmax, state.code, state.offset):
        if isinstance(tensor, torch.Tensor):
            yield tensor
    if state.state2 is not None:
        yield from _state_tensors(state.state2)
