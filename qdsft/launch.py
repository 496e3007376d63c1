"""Read from the environment what accelerate launch or torchrun asked for. Imports nothing heavy."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from qdsft.environment import variable
from qdsft.errors import UserError, reason

COUNTS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Variables of a launcher that hold numbers."""
OF_A_LAUNCH = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that torchrun and accelerate launch set together in every process."""
SECONDS_BEFORE_NOTICE = 10.0
"""How long a process waits for the others before it says so."""
_DEFAULT_ADDRESS = ("127.0.0.1", "29500")
"""The address that accelerate launch gives to the processes of one machine."""


def world_size() -> int:
    """Return the number of processes that the launcher started on all machines; 1 without a launcher."""
    return int(variable("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return this process's number in its launch; 0 without a launcher, and for variables that make no launch."""
    rank, size = variable("RANK", "0"), variable("WORLD_SIZE", "1")
    return int(rank) if rank.isdecimal() and size.isdecimal() and int(rank) < int(size) else 0


def check_environment() -> None:
    """Raise UserError, which names the variables, if the environment describes half of a launch.

    Such variables are left over from another launch, or were set by a cluster. Empty variables are removed, because
    torch and accelerate read them as numbers.
    """
    for name in (*COUNTS, *OF_A_LAUNCH):
        if not os.environ.get(name, "set").strip():
            del os.environ[name]
    for name in COUNTS:
        value = variable(name, "1")
        if not value.isdecimal() or (name.endswith("SIZE") and int(value) == 0):
            raise UserError(f"{name}={value} in the environment is no number of a launch; unset {name}")
    if int(variable("RANK", "0")) >= world_size():
        raise UserError(
            f"RANK={variable('RANK')} in the environment is too high for {world_size()} process(es) (WORLD_SIZE); "
            "unset RANK, or start with accelerate launch"
        )
    missing = [name for name in OF_A_LAUNCH if not variable(name)]
    if missing and (world_size() > 1 or variable("LOCAL_RANK")):
        found = [name for name in COUNTS if variable(name)]
        raise UserError(
            f"no launcher started this process: the environment has {', '.join(found)} without {', '.join(missing)}; "
            f"unset {' '.join(found)}, or start with accelerate launch"
        )


@contextmanager
def waiting_for_processes(limit: timedelta) -> Iterator[None]:
    """Print a line if connecting the processes of this launch takes long; torch gives up after `limit`.

    Raises UserError if they cannot be connected.
    """
    size, remedy = world_size(), "if no other process was started, unset WORLD_SIZE RANK LOCAL_RANK"
    address = f"{variable('MASTER_ADDR')}:{variable('MASTER_PORT')}"
    line = f"process {process_rank()} of {size} is waiting for the others at {address}, up to {limit} hours; {remedy}"
    timer = threading.Timer(SECONDS_BEFORE_NOTICE, print, [line], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    if size > 1:
        timer.start()
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {size} processes of WORLD_SIZE cannot connect at {address} ({reason(error)}); start all of them with "
            f"accelerate launch; {remedy}"
        ) from error
    finally:
        timer.cancel()


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
    return int(_zero_optimization(path)["stage"])


def offloads_optimizer() -> bool:
    """Return whether the launcher asked DeepSpeed to keep the optimizer in main memory, where its own Adam runs.

    Raises UserError if DeepSpeed's configuration file cannot be read.
    """
    if not uses_deepspeed():
        return False
    path = variable("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path == "none":
        return variable("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none"
    device = (_zero_optimization(path).get("offload_optimizer") or {}).get("device", "none")
    return bool(device != "none")


def check_launch(*, quantized: bool) -> None:
    """Raise UserError for a launch that would not run what the user asked for, or that is known to fail."""
    check_environment()
    if _one_instead_of_several():
        raise UserError(
            "accelerate launch was asked for several processes and started one; give it --config_file "
            "accelerate_configs/ddp.yaml (which runs on a CPU, too) without --cpu, or --num_processes 1 and an "
            "environment without MASTER_ADDR"
        )
    if quantized:
        refuse_sharding()


def refuse_sharding() -> None:
    """Raise UserError if the launch would shard the weights, which are quantized."""
    if zero_stage() == 3:
        raise UserError(
            "a quantized model cannot be sharded by DeepSpeed ZeRO-3, which would save its 4-bit blocks in pieces; "
            "launch with accelerate_configs/ddp.yaml or zero2.yaml"
        )
    if uses_fsdp():
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


def _one_instead_of_several() -> bool:
    """Return whether accelerate launch was asked for several processes and started one.

    accelerate sets MASTER_ADDR and MASTER_PORT if it was asked for several processes, and WORLD_SIZE only if it starts
    them. An address that is in accelerate's own environment, too, was set before by a user or a cluster.
    """
    if not variable("MASTER_ADDR") or not variable("ACCELERATE_MIXED_PRECISION") or variable("WORLD_SIZE"):
        return False
    address = (variable("MASTER_ADDR"), variable("MASTER_PORT"))
    before = _environment_of_parent()
    return address != (before.get("MASTER_ADDR"), before.get("MASTER_PORT", "")) or address == _DEFAULT_ADDRESS


def _environment_of_parent() -> dict[str, str]:
    """Return the environment that the parent process was started with; {} where the system does not show it."""
    with suppress(OSError):
        text = Path(f"/proc/{os.getppid()}/environ").read_text(encoding="utf-8", errors="replace")
        return {name: value for name, _, value in (entry.partition("=") for entry in text.split("\0"))}
    return {}


def _zero_optimization(path: str) -> dict[str, Any]:
    """Return the section of a DeepSpeed configuration file that has the stage. Raises UserError without it."""
    try:
        section: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))["zero_optimization"]
        int(section["stage"])
        return section
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no DeepSpeed configuration with zero_optimization.stage ({error}); accelerate_configs/zero2.yaml "
            "needs no such file"
        ) from error


def _is_set(name: str) -> bool:
    return variable(name, "false").lower() in {"true", "1"}
