"""Replace functions of torch.cuda so that torch reports GPUs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

GIB = 2**30


class PretendedGpus:
    """Calls of torch.cuda by the code under test, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def record(self, name: str, result: Any = None) -> Any:
        """Return a function that notes its call by `name` and returns `result` (called with its arguments)."""

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments[0] if arguments else None))
            return result(*arguments, **options) if callable(result) else result

        return call


def pretend_gpus(
    monkeypatch: pytest.MonkeyPatch,
    *,
    count: int = 1,
    bfloat16: bool = True,
    free: float = 6.0,
    total: float = 8.0,
    peak: float = 3.0,
) -> PretendedGpus:
    """Make torch.cuda report `count` equal GPUs; memory is in GiB. They cannot hold tensors."""
    gpus = PretendedGpus()
    capability = (8, 9) if bfloat16 else (7, 5)
    answers = {
        "is_available": True,
        "device_count": count,
        "current_device": 0,
        "set_device": None,
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "get_device_name": lambda index=0: f"GPU {index}",
        "get_device_capability": capability,
        "is_bf16_supported": lambda including_emulation=True: bfloat16 or including_emulation,
        "mem_get_info": lambda index=0: (int(free * GIB), int(total * GIB)),
        "max_memory_allocated": int(peak * GIB),
        "max_memory_reserved": int(1.1 * peak * GIB),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, gpus.record(name, answer))
    return gpus
