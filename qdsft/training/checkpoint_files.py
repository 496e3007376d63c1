"""Read the files of a checkpoint before a run resumes from it, so that a damaged checkpoint is passed over.

Files of PyTorch are read with weights_only, which runs no code. Those of DeepSpeed, which DeepSpeed itself unpickles,
are only compared with their checksums.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftConfig
from safetensors import safe_open
from transformers.trainer_pt_utils import safe_globals

from qdsft.errors import UserError, reason
from qdsft.launch import zero_stage
from qdsft.model.checked_weights import is_finite
from qdsft.runs.checkpoints import DEEPSPEED, OPTIMIZERS

_RANK = re.compile(r"zero_pp_rank_\d+_")
OLDER = "delete it to resume from the checkpoint before it"


def checkpoint_fault(folder: Path, processes: int) -> str | None:
    """Return which file of a checkpoint is missing or damaged, or None; reads every file once."""
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    if any(folder.glob(f"{DEEPSPEED}*")):
        found = [_latest_fault(folder) or _deepspeed_fault(folder, processes)]
    else:
        optimizers = [name for name in OPTIMIZERS if (folder / name).exists()]
        found = [_torch_fault(folder / name) for name in (*optimizers, "scheduler.pt")]
        found += [_weights_fault(path) for path in sorted(folder.glob("*.safetensors"))]
    if (folder / "adapter_model.safetensors").exists():
        found.append(_adapter_fault(folder))
    found += [_torch_fault(folder / name) for name in states]
    return next((fault for fault in found if fault), None)


@contextmanager
def checkpoint_errors(folder: str | Path, what: str) -> Iterator[None]:
    """Turn what a library raises in this block, while it loads a part of a checkpoint, into a UserError."""
    try:
        yield
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(f"{folder}: the {what} cannot be loaded: {reason(error)}; {OLDER}") from error


def _torch_fault(path: Path) -> str | None:
    if fault := _checksum_fault(path):
        return fault
    try:
        with safe_globals():  # of the random states
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # an unpickler may raise anything
        return f"{path.name} cannot be read ({reason(error)})"
    return None if isinstance(content, dict) and content else f"{path.name} holds no state"


def _checksum_fault(path: Path) -> str | None:
    """Compare a file of torch.save with its checksums; no code in it can run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{path.name} is damaged" if archive.testzip() else None
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError) as error:
        return f"{path.name} cannot be read ({reason(error)})"


def _weights_fault(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as reader:
            names = list(reader.keys())
            infinite = next((name for name in names if not is_finite(reader.get_tensor(name))), None)
    except Exception as error:
        return f"{path.name} cannot be read ({reason(error)})"
    if infinite:
        return f"{path.name}: {infinite} holds NaN or infinity"
    return None if names else f"{path.name} holds no weights"


def _adapter_fault(folder: Path) -> str | None:
    try:
        PeftConfig.from_pretrained(str(folder))
    except Exception as error:
        return f"adapter_config.json cannot be read ({reason(error)})"
    return None


def _deepspeed_fault(folder: Path, processes: int) -> str | None:
    """Return which file of DeepSpeed's folder is damaged, or missing for one of the processes.

    Otherwise a process without its file raises an error while DeepSpeed's other processes wait for it.
    """
    inside = folder / (folder / "latest").read_text(encoding="utf-8").strip()
    names = sorted(path.name for path in inside.glob("*.pt"))
    kinds = ("model_states.pt", *(["optim_states.pt"] if zero_stage() else []))
    if absent := [kind for kind in kinds if not any(name.endswith(kind) for name in names)]:
        return f"{inside.name} has no {absent[0]}"
    wanted = {_RANK.sub(f"zero_pp_rank_{rank}_", name) for name in names for rank in range(processes)}
    if missing := sorted(wanted - set(names)):
        return f"{missing[0]} is missing"
    faults = (_checksum_fault(inside / name) for name in names)
    return next((fault for fault in faults if fault), None)


def _latest_fault(folder: Path) -> str | None:
    """Return what is wrong with the file that tells DeepSpeed which of its folders to load."""
    try:
        name = (folder / "latest").read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        return f"latest cannot be read ({reason(error)})"
    is_inside = name.startswith(DEEPSPEED) and "/" not in name and (folder / name).is_dir()
    return None if is_inside else f"latest names {name[:40]!r}, which is no folder of the checkpoint"
