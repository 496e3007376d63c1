"""Read from the environment what accelerate launch or torchrun asked for. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path

from qdsft.environment import variable
from qdsft.errors import UserError


def world_size() -> int:
    """Return the number of processes that the launcher started on all machines; 1 without a launcher."""
    return int(variable("WORLD_SIZE", "1"))


def uses_fsdp() -> bool:
    """Return whether the launcher asked for FSDP (PyTorch's fully sharded data parallelism)."""
    return _is_set("ACCELERATE_USE_FSDP")


def uses_cpu() -> bool:
    """Return whether the launcher asked for the CPU (accelerate_configs/cpu.yaml)."""
    return _is_set("ACCELERATE_USE_CPU")


def uses_deepspeed() -> bool:
    """Return whether the launcher asked for DeepSpeed."""
    return _is_set("ACCELERATE_USE_DEEPSPEED")


def zero_stage() -> int:
    """Return the stage of DeepSpeed's ZeRO, 0 to 3; 0 without DeepSpeed.

    Raises UserError if DeepSpeed's configuration file cannot be read.
    """
    if not uses_deepspeed():
        return 0
    path = variable("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path == "none":
        return int(variable("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))  # 2 is accelerate's default
    try:
        stage = json.loads(Path(path).read_text(encoding="utf-8"))["zero_optimization"]["stage"]
        return int(stage)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no DeepSpeed configuration with zero_optimization.stage ({error}); accelerate_configs/zero2.yaml "
            "needs no such file"
        ) from error


def check_launch(*, quantized: bool) -> None:
    """Raise UserError for a launch that would not run what the user asked for, or that is known to fail."""
    # accelerate sets MASTER_ADDR if it was asked for several processes, and WORLD_SIZE only if it starts them.
    if variable("MASTER_ADDR") and variable("ACCELERATE_MIXED_PRECISION") and not variable("WORLD_SIZE"):
        raise UserError(
            "accelerate launch was asked for several processes and started one; give it --config_file "
            "accelerate_configs/ddp.yaml (which runs on a CPU, too) without --cpu, or --num_processes 1"
        )
    if quantized and zero_stage() == 3:
        raise UserError(
            "a quantized model cannot be sharded by DeepSpeed ZeRO-3, which would save its 4-bit blocks in pieces; "
            "launch with accelerate_configs/ddp.yaml or zero2.yaml"
        )
    if quantized and uses_fsdp():
        raise UserError(
            "a quantized model is not sharded by FSDP here: its 4-bit weights are small already; launch with "
            "accelerate_configs/ddp.yaml or zero2.yaml"
        )


def check_running(*, processes: int, device: str, deepspeed: bool, fsdp: bool) -> None:
    """Raise UserError unless the number of processes and the sharding are what the launcher asked for."""
    if processes != world_size():
        raise UserError(
            f"the launcher asked for {world_size()} processes and {processes} found one another; start them with "
            "accelerate launch --config_file accelerate_configs/ddp.yaml"
        )
    if fsdp != uses_fsdp() or deepspeed != uses_deepspeed():
        asked = "FSDP" if uses_fsdp() else "DeepSpeed" if uses_deepspeed() else "neither DeepSpeed nor FSDP"
        raise UserError(
            f"the launcher asked for {asked}, which does not run on this machine's device ({device}); launch with "
            "accelerate_configs/ddp.yaml"
        )


def _is_set(name: str) -> bool:
    return variable(name, "false").lower() in {"true", "1"}
