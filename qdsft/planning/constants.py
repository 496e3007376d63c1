"""What a trace of tensors cannot see, and where each figure comes from. No GPU has confirmed them yet."""

from __future__ import annotations

CONTEXT = 2**29
"""Bytes of a CUDA context with loaded kernels, outside of PyTorch's allocator: 0.4 to 0.6 GiB were published."""
NCCL = 2**28
"""Bytes of NCCL's buffers: two of 4 MiB (NCCL_BUFFSIZE) for 16 channels in both directions of a ring."""
CUSTOM_GEMM_ROWS = 4
"""Rows up to which bitsandbytes 0.50 multiplies with 4-bit weights without de-quantizing them on every GPU
(backends/cuda/ops.py). Above, that depends on the GPU, and the buffer is counted."""
SMALLEST_PAGED = 100_000
"""Elements below which bitsandbytes does not page an optimizer state (optim/optimizer.py, get_state_buffer)."""
ZERO_BUCKET = 5 * 10**8
"""Elements of DeepSpeed's reduce bucket, which accelerate leaves at its default."""
ZERO_LIVE = 10**9
"""Elements that ZeRO-3 keeps gathered at most (stage3_max_live_parameters)."""
