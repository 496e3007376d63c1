"""Let PyTorch on a CPU make the tensors that it makes on CUDA. The patches last as long as the trace."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging import ERROR, getLogger
from typing import Any
from unittest.mock import patch

import bitsandbytes.functional
import peft.tuners.lora.dora
import torch
import transformers.masking_utils
import trl.kernels.chunked_logprob
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from transformers.utils import logging

IN_FLOAT32 = {
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh"),
    *("tan", "pow", "softplus", "layer_norm", "group_norm", "cosine_similarity", "nll_loss", "logsumexp", "norm"),
}
"""Functions that autocast computes in float32 on CUDA and not on a CPU (ATen/autocast_mode.h)."""
RESULT_IN_FLOAT32 = {"softmax", "log_softmax", "cumsum", "cumprod", "prod"}
"""Functions whose result, not their input, autocast makes float32 on CUDA."""


_enabled = torch.is_autocast_enabled


class CudaAutocast(TorchFunctionMode):
    """Cast as autocast does on CUDA, where autocast on a CPU does not cast."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, with float32 inputs or results if CUDA's autocast wants them."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if (name in IN_FLOAT32 or name in RESULT_IN_FLOAT32) and torch.is_autocast_enabled("cpu"):
            if name in IN_FLOAT32:
                args = tuple(_float32(value) for value in args)
                kwargs = {key: _float32(value) for key, value in kwargs.items()}
            elif kwargs.get("dtype") is None and isinstance(args[0], torch.Tensor) and args[0].is_floating_point():
                kwargs = {**kwargs, "dtype": torch.float32}
        return func(*args, **kwargs)


@contextmanager
def fake_tensors(mode: FakeTensorMode, *, cuda: bool, packed: bool) -> Iterator[None]:
    """Compute with the fake tensors of `mode` inside, as on CUDA with Triton if `cuda`.

    `packed` says whether rows hold several samples: a fake tensor cannot show it.
    """
    # Bitsandbytes computes its tables from numbers, which fake tensors do not have.
    table = bitsandbytes.functional.create_dynamic_map()  # type: ignore[no-untyped-call]
    bitsandbytes.functional.quantize_4bit(torch.zeros(64, 256, dtype=torch.bfloat16), compress_statistics=True)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    quiet = getLogger("bitsandbytes")
    level = quiet.level
    quiet.setLevel(ERROR)
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, verbosity)
        stack.callback(quiet.setLevel, level)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if not packed:
            stack.enter_context(
                patch.object(transformers.masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
            )
        for name in ("optimizer_update_8bit_blockwise", "optimizer_update_32bit"):
            stack.enter_context(patch.object(bitsandbytes.functional, name, _in_place))
        stack.enter_context(patch.object(bitsandbytes.functional, "create_dynamic_map", lambda **_: table))
        stack.enter_context(patch.object(peft.tuners.lora.dora, "dequantize_module_weight", dequantized))
        if cuda:
            # Triton's kernels fold a tile in place, and cuBLAS adds a product to a float32 sum without copies.
            for name in ("_forward_tile", "_backward_tile", "_addmm_fp32"):
                stack.enter_context(patch.object(trl.kernels.chunked_logprob, name, _in_place))
            # Without a device, PyTorch answers for CUDA. PEFT asks so, and would cast the inputs of its adapters.
            stack.enter_context(patch.object(torch, "is_autocast_enabled", _is_autocast_enabled))
        stack.enter_context(mode)
        if cuda:
            stack.enter_context(CudaAutocast())
        yield


def dequantized(module: Any) -> torch.Tensor:
    """Return the weight of a linear layer in 16 bits, as PEFT reads it for DoRA."""
    weight = module.weight
    if (state := getattr(weight, "quant_state", None)) is not None:
        found: torch.Tensor = bitsandbytes.functional.dequantize_4bit(weight.data, state)
        return found
    return torch.empty(weight.shape, dtype=weight.dtype, device="meta") if weight.is_meta else weight


def _is_autocast_enabled(device: str = "cuda") -> bool:
    return _enabled("cpu" if device == "cuda" else device)


def _in_place(*_: Any, **__: Any) -> None:
    """Stand for a kernel that allocates nothing."""


def _float32(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
