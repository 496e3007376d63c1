"""Find the device that this process computes on."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager

import torch

from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.launch import uses_cpu

CPU_DTYPE = "QDSFT_CPU_DTYPE"
"""The environment variable that names the dtype of a CPU: float32 (default) or bfloat16, which only CPUs with
instructions for it (AVX-512 BF16, AMX) compute faster."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The device that this process computes on."""

    device_type: str
    """cuda, mps or cpu."""
    name: str
    dtype: torch.dtype
    """The best dtype of the device: bfloat16 or else float16 on a CUDA GPU, float32 elsewhere (CPU: see CPU_DTYPE)."""

    def choose_dtype(self, wanted: str) -> torch.dtype:
        """Return the dtype to use on this device for model.dtype `wanted` (auto, bfloat16, float16 or float32).

        Every CUDA GPU computes float16. bfloat16 becomes float16 on a GPU without it, and both become the dtype
        of the machine on a CPU, which is float32 unless CPU_DTYPE says bfloat16.
        """
        if wanted == "float32":
            return torch.float32
        return torch.float16 if wanted == "float16" and self.device_type == "cuda" else self.dtype

    def differs(self, wanted: str) -> str:
        """Return a clause that says why this device computes in another dtype than `wanted`; "" if it does not."""
        dtype = self.choose_dtype(wanted)
        if dtype == torch.float16 and wanted in {"auto", "bfloat16"}:
            return f" (bfloat16 does not run on this GPU; float16 overflows above {torch.finfo(dtype).max:.0f})"
        return "" if wanted in {"auto", _name(dtype)} else f" (the recipe asks for {wanted})"

    def own(self) -> str:
        """Return the device of this process by its index, such as cuda:1."""
        return f"cuda:{variable('LOCAL_RANK', '0')}" if self.device_type == "cuda" else self.device_type


def find_machine() -> Machine:
    """Return a CUDA GPU, else an Apple GPU, else the CPU; always the CPU if the launcher asks for it.

    Makes the GPU of this process the current one, because whatever asks for "cuda" before would take memory of GPU 0.
    Without a launcher the first of several GPUs is taken. Raises UserError if there are more processes than GPUs.
    """
    # With ACCELERATE_USE_CPU transformers puts the batches on the CPU even if there are GPUs.
    if uses_cpu():
        return _cpu()
    if torch.cuda.is_available():
        if torch.cuda.device_count() > 1 and not variable("LOCAL_RANK"):
            say(
                f"{torch.cuda.device_count()} GPUs are visible; this process uses GPU 0 (set CUDA_VISIBLE_DEVICES to "
                "use another)"
            )
        index = int(variable("LOCAL_RANK", "0"))
        if index >= torch.cuda.device_count():
            raise UserError(
                f"process {index} has no GPU: this machine has {torch.cuda.device_count()}; lower --num_processes"
            )
        torch.cuda.set_device(index)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Machine("cuda", torch.cuda.get_device_name(index), torch.bfloat16 if bf16 else torch.float16)
    if torch.backends.mps.is_available():
        return Machine("mps", "Apple GPU", torch.float32)
    return _cpu()


def check_own_gpu() -> None:
    """Raise UserError if several GPUs are visible to a single process, with which TRL cannot train."""
    if uses_cpu() or not torch.cuda.is_available():
        return
    if torch.cuda.device_count() > 1 and not variable("LOCAL_RANK"):
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible to one process; start with accelerate launch "
            "--config_file accelerate_configs/ddp.yaml, or set CUDA_VISIBLE_DEVICES=0"
        )


def fork_rng() -> AbstractContextManager[None]:
    """Restore the random state of the CPU and of this process's GPU after the block.

    torch.random.fork_rng restores that of all GPUs by default, also of those that other processes use, and warns.
    """
    own = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    return torch.random.fork_rng(devices=own)


def _cpu() -> Machine:
    wanted = variable(CPU_DTYPE, "float32")
    if wanted not in {"float32", "bfloat16"}:
        raise UserError(f"{CPU_DTYPE} is {wanted!r}; set it to bfloat16 or float32, or unset it")
    return Machine("cpu", f"CPU, {torch.get_num_threads()} threads", getattr(torch, wanted))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
