"""Turn errors of the device, such as running out of memory, into one line that names the stage and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from qdsft.errors import UserError, reason
from qdsft.recipe import Recipe

_OUT_OF_MEMORY = (
    "out of memory",
    "alloc_failed",
    "not enough memory: you tried",
    "can't allocate memory",
    "cannot allocate memory",
)
"""Parts of the messages of CUDA, HIP, MPS, cuBLAS, PyTorch's CPU allocator and safetensors, in lower case."""
_DEVICE = ("cuda error", "cuda driver", "hip error", "cublas", "cudnn", "nccl", "nvidia driver", "mps backend")
_CONNECTION = ("connection closed by peer", "connection reset by peer", "socket closed")


@contextmanager
def device_errors(stage: str, remedy: str) -> Iterator[None]:
    """Raise UserError if the device runs out of memory or fails inside this block.

    `stage` completes the sentence "out of memory while ..."; `remedy` says how to need less memory. Other errors pass.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise UserError(f"out of memory while {stage}; {remedy}") from error
        if is_device_error(error):
            raise UserError(
                f"the device failed while {stage} ({reason(error)}); start again, and if it fails again run qdsft "
                "doctor and set CUDA_LAUNCH_BLOCKING=1 to find the operation"
            ) from error
        if isinstance(error, torch.distributed.DistError) or _mentions(error, _CONNECTION):
            raise UserError(
                f"another process of this launch ended or cannot be reached while {stage} ({reason(error)}); see its "
                "message"
            ) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a GPU or of the machine is exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError | SafetensorError) and _mentions(error, _OUT_OF_MEMORY)


def is_device_error(error: BaseException) -> bool:
    """Return whether an error comes from the device or its libraries, not from the code that uses them."""
    return is_out_of_memory(error) or isinstance(error, torch.AcceleratorError) or _mentions(error, _DEVICE)


def less_memory(recipe: Recipe) -> str:
    """Return how to reduce the memory of training this recipe, as the remedy of an error message."""
    every_layer = recipe.training_value("activation_checkpointing") is True
    return ("" if every_layer else "set training.activation_checkpointing=true, or ") + (
        "lower training.per_device_train_batch_size or training.max_length (training.global_batch_size keeps the "
        "result the same)"
    )


FREE_DEVICE = "end other programs that use the device, or set CUDA_VISIBLE_DEVICES= to use the CPU"
"""The remedy for a device that has too little memory for a finished run."""


def smaller_weights(recipe: Recipe) -> str:
    """Return the remedy for a device that has too little memory for the weights that this recipe trains."""
    quantize = "" if recipe.quantization or recipe.lora is None else "set quantization.load_in_4bit=true, or "
    return f"{quantize}end other programs that use the device, or choose a smaller model (qdsft plan shows what fits)"


def _mentions(error: BaseException, parts: tuple[str, ...]) -> bool:
    return any(part in str(error).lower() for part in parts)
