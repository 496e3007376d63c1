"""GPUs by name, and the GPUs that a run is planned for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from qdsft.errors import UserError

WITHOUT_BFLOAT16 = {"T4"}
"""Listed GPUs on which training falls back to float16."""


@dataclass(frozen=True)
class Target:
    """The GPUs that a run is planned for."""

    memory: int
    """Bytes of one GPU."""
    count: int = 1
    zero: int = 0
    """ZeRO stage; 0 means a single GPU, DDP or FSDP."""
    name: str | None = None
    fsdp: bool = False
    """Whether FSDP2 shards weights, gradients and optimizer states."""
    offload: bool = False
    """Whether what is sharded is kept in the machine's memory between its uses."""

    @property
    def bfloat16(self) -> bool:
        """Whether the GPUs compute in bfloat16; GPUs without a name are assumed to."""
        return self.name not in WITHOUT_BFLOAT16

    @property
    def sharding(self) -> str:
        """How several GPUs share the work, in words; "" for one GPU."""
        if self.count == 1:
            return ""
        name = f"ZeRO-{self.zero}" if self.zero else "FSDP" if self.fsdp else "DDP"
        return name + ", offloaded" * self.offload

    @property
    def shards_weights(self) -> bool:
        """Whether each GPU holds a part of the weights alone."""
        return self.zero == 3 or self.fsdp

    def check(self) -> None:
        """Raise UserError for options that contradict each other."""
        if self.zero and self.fsdp:
            raise UserError("--zero and --fsdp are two ways to shard; give one of them")
        if (self.zero or self.fsdp) and self.count == 1:
            raise UserError(f"--{'fsdp' if self.fsdp else 'zero'} shards over several GPUs; add --gpus 2 or more")
        if self.offload and not (self.zero or self.fsdp):
            raise UserError("--offload moves what is sharded to the machine's memory; add --zero 3 or --fsdp")


@cache
def cards() -> dict[str, int]:
    """Return the total memory in MiB of every listed GPU, as nvidia-smi reports it, by its name."""
    found: dict[str, int] = json.loads(Path(__file__).with_name("cards.json").read_text(encoding="utf-8"))
    return found


def find_card(name: str) -> tuple[str, int]:
    """Return the full name and the bytes of a GPU, named as people write it or as nvidia-smi prints it.

    A name without a memory size, such as A100, means the smallest of that kind. Raises UserError, with the known
    names, for a GPU that is not listed or a name that fits several kinds.
    """
    for wanted in (_plain(name), _plain(_SIZE.sub("", name))):
        fitting = [
            full
            for full, memory in cards().items()
            if wanted in (_plain(full), _plain(_SIZE.sub("", full))) and _has_size_of(name, memory)
        ]
        if fitting:
            full = min(fitting, key=cards().__getitem__)
            return full, cards()[full] * 2**20
    near = [full for full in cards() if _plain(name) and _plain(full).startswith(_plain(name))]
    if len(near) == 1:
        return near[0], cards()[near[0]] * 2**20
    close = get_close_matches(_plain(name), [_plain(full) for full in cards()], 1)
    near = near or [full for full in cards() if _plain(full) in close]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"--gpu {name}: not listed; {hint}known GPUs: {', '.join(cards())}. For another GPU, give --gpu-memory in GiB"
    )


_SIZE = re.compile(r"\b(\d+)\s?GB\b", re.IGNORECASE)
_IGNORED = re.compile(r"nvidia|geforce|tesla|\b(gpu|pcie|sxm\d?|hbm\d\w?)\b|[\s_-]")
"""Parts of nvidia-smi's names that say nothing about memory: maker, series, slot and kind of memory."""


def _plain(name: str) -> str:
    return _IGNORED.sub("", name.lower())


def _has_size_of(name: str, memory: int) -> bool:
    """Return whether a memory in MiB is the one that a name such as "H100 80GB HBM3" gives, if it gives any."""
    size = _SIZE.search(name)
    return size is None or abs(int(size[1]) - memory / 1024) <= 2
