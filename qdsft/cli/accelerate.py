"""Launch `qdsft train` on all GPUs, as `accelerate launch scripts/run_sft.py` does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.optional_packages import require


def launch(config: str, arguments: Sequence[str]) -> int:
    """Run `qdsft train ARGUMENTS` under `accelerate launch` and return the launcher's exit status.

    On Linux and macOS the launcher replaces this process, so signals reach it. Raises UserError under another launcher,
    and for a configuration that cannot be read.
    """
    from qdsft.recipe.recipe import ACCELERATE_OPTION

    if variable("WORLD_SIZE") or variable("ACCELERATE_MIXED_PRECISION"):
        raise UserError("--accelerate starts the processes itself; leave it out under accelerate launch or torchrun")
    path = find_config(config)
    settings = _read(path)
    if settings.get("distributed_type") == "DEEPSPEED":
        require("deepspeed", f"--accelerate {config}", "deepspeed")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(path)]
    command += [*_processes(settings, _count_gpus()), "-m", "qdsft", "train", *arguments]
    environment = {**os.environ, ACCELERATE_OPTION: config}
    if sys.platform == "win32":
        return subprocess.call(command, env=environment)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)


def find_config(name: str) -> Path:
    """Return the file of that name, else the shipped configuration. Raises UserError if there is neither."""
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).parents[1]
    folders = (package / "accelerate_configs", package.parent / "accelerate_configs")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    shipped = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise UserError(f"--accelerate {name}: no such file; give a path, or one of {', '.join(shipped)}")


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--accelerate {path}: cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"--accelerate {path}: no configuration of accelerate; write one with: accelerate config")
    return settings


def _processes(settings: dict[str, Any], gpus: int) -> list[str]:
    """Return the option for one process per GPU; none on a CPU, and for several machines, whose file has the number."""
    on_cpu = settings.get("use_cpu") or settings.get("distributed_type") == "NO"
    return [] if on_cpu or gpus == 0 or settings.get("num_machines", 1) > 1 else ["--num_processes", str(gpus)]


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()
