"""What a CPU is made to do as CUDA does it."""

from __future__ import annotations

import pytest
import torch
import transformers.masking_utils
import trl.kernels.chunked_logprob
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers.utils import logging

from qdsft.training.memory_trace.cuda_semantics import CudaAutocast, fake_tensors

HALF = torch.bfloat16


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("layer_norm", torch.float32),
        ("softmax", torch.float32),
        ("exp", torch.float32),
        ("rsqrt", torch.float32),
        ("linear", HALF),
        ("silu", HALF),
    ],
)
def test_autocast_casts_as_on_cuda(name: str, result: torch.dtype) -> None:
    """The formats of https://docs.pytorch.org/docs/stable/amp.html#cuda-ops-that-can-autocast-to-float32."""
    inputs = torch.ones(2, 4, dtype=HALF)
    calls = {
        "layer_norm": lambda: torch.nn.functional.layer_norm(inputs, (4,)),
        "softmax": lambda: inputs.softmax(-1),
        "exp": lambda: torch.exp(inputs),
        "rsqrt": lambda: inputs.rsqrt(),
        "linear": lambda: torch.nn.functional.linear(inputs, torch.ones(4, 4)),
        "silu": lambda: torch.nn.functional.silu(inputs),
    }
    with CudaAutocast(), torch.autocast("cpu", HALF):
        assert calls[name]().dtype == result
    with CudaAutocast():
        assert name == "linear" or calls[name]().dtype == HALF, "without autocast nothing is cast"


def test_all_patches_end_with_the_trace() -> None:
    kernels = trl.kernels.chunked_logprob
    before = (kernels._forward_tile, transformers.masking_utils.find_packed_sequence_indices, logging.get_verbosity())
    with pytest.raises(RuntimeError), fake_tensors(FakeTensorMode(), cuda=True, packed=False):
        assert isinstance(torch.zeros(2), FakeTensor)
        assert kernels._forward_tile is not before[0]
        raise RuntimeError
    after = (kernels._forward_tile, transformers.masking_utils.find_packed_sequence_indices, logging.get_verbosity())
    assert after == before


@pytest.mark.parametrize("packed", [True, False])
def test_only_packed_rows_have_a_mask_between_samples(packed: bool) -> None:
    with fake_tensors(FakeTensorMode(), cuda=True, packed=packed):
        found = transformers.masking_utils.find_packed_sequence_indices(torch.arange(8)[None])
    assert (found is not None) == packed


def test_on_a_cpu_the_loss_is_folded_by_pytorch() -> None:
    tile = trl.kernels.chunked_logprob._forward_tile
    with fake_tensors(FakeTensorMode(), cuda=False, packed=False):
        assert trl.kernels.chunked_logprob._forward_tile is tile


def test_without_a_device_the_answer_is_cudas() -> None:
    """PEFT asks so before it casts the inputs of float32 adapters on a quantized base."""
    with fake_tensors(FakeTensorMode(), cuda=True, packed=False):
        assert not torch.is_autocast_enabled()
        with torch.autocast("cpu", HALF):
            assert torch.is_autocast_enabled() and torch.is_autocast_enabled("cuda")
    with fake_tensors(FakeTensorMode(), cuda=False, packed=False), torch.autocast("cpu", HALF):
        assert not torch.is_autocast_enabled()
