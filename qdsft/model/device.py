"""Find the device that this process computes on."""

from __future__ import annotations

import dataclasses

import torch

from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.launch import uses_cpu


@dataclasses.dataclass(frozen=True)
class Machine:
    """The device that this process computes on."""

    device_type: str
    """cuda, mps or cpu."""
    name: str
    dtype: torch.dtype
    """The best dtype of the device: bfloat16 or else float16 on a CUDA GPU, float32 elsewhere."""

    def choose_dtype(self, wanted: str) -> torch.dtype:
        """Return the dtype to use on this device for model.dtype `wanted` (auto, bfloat16, float16 or float32)."""
        return torch.float32 if wanted == "float32" else self.dtype


def find_machine() -> Machine:
    """Return a CUDA GPU, else an Apple GPU, else the CPU; always the CPU if the launcher asks for it.

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


def _cpu() -> Machine:
    return Machine("cpu", f"CPU, {torch.get_num_threads()} threads", torch.float32)
