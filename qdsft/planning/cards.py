"""Facts about GPUs by name, from cards.json: their memory, and speeds that were measured on them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from qdsft.errors import UserError


class Measured(BaseModel):
    """One finished run of a recipe on a GPU; estimates do not belong here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    """`<folder>-<file>` of the recipe, as Recipe.name gives it."""
    tokens_per_second: float = Field(gt=0)
    """Training tokens of a run divided by its training time, on one GPU."""
    usd_per_hour: float | None = Field(default=None, gt=0)
    """Price of one hour of the GPU, if it was rented."""
    source: str
    """Where the figure is recorded: a page of this repository, or a run's run.json."""


class Card(BaseModel):
    """A GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_mib: int = Field(gt=0)
    """Total memory in MiB, as nvidia-smi reports it."""
    bfloat16: bool
    """Whether the GPU computes in bfloat16; training falls back to float16 otherwise."""
    measured: tuple[Measured, ...] = ()

    @property
    def memory(self) -> int:
        """Total memory in bytes."""
        return self.memory_mib * 2**20

    def find_measured(self, recipe_name: str) -> Measured | None:
        """Return the measured speed of a recipe on this GPU, or None."""
        return next((entry for entry in self.measured if entry.recipe == recipe_name), None)


@dataclass(frozen=True)
class Target:
    """The GPUs that a run is planned for."""

    memory: int
    """Bytes of one GPU."""
    count: int = 1
    zero: int = 0
    """ZeRO stage; 0 means a single GPU, DDP or FSDP."""
    name: str | None = None
    card: Card | None = None
    fsdp: bool = False
    """Whether FSDP2 shards weights, gradients and optimizer states."""
    offload: bool = False
    """Whether what is sharded is kept in the machine's memory between its uses."""

    @property
    def bfloat16(self) -> bool:
        """Whether the GPUs compute in bfloat16; GPUs without a name are assumed to."""
        return self.card is None or self.card.bfloat16

    def check(self) -> None:
        """Raise UserError for options that contradict each other."""
        if self.zero and self.fsdp:
            raise UserError("--zero and --fsdp are two ways to shard; give one of them")
        if self.zero and self.count == 1:
            raise UserError("--zero shards over several GPUs; add --gpus 2 or more")
        if self.fsdp and self.count == 1:
            raise UserError("--fsdp shards over several GPUs; add --gpus 2 or more")
        if self.offload and not (self.zero or self.fsdp):
            raise UserError("--offload moves what is sharded to the machine's memory; add --zero 3 or --fsdp")


@cache
def cards() -> dict[str, Card]:
    """Return the facts of every listed GPU by its name."""
    path = Path(__file__).with_name("cards.json")
    return {name: Card.model_validate(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}


def find_card(name: str) -> tuple[str, Card]:
    """Return the full name and the facts of a GPU, named as people write it or as nvidia-smi prints it.

    A name without a memory size, such as A100, means the smallest of that kind. Raises UserError, with the known
    names, for a GPU that is not listed or a name that fits several kinds.
    """
    for wanted in (_plain(name), _plain(_SIZE.sub("", name))):
        fitting = [full for full in cards() if _plain(full) == wanted or _plain(_SIZE.sub("", full)) == wanted]
        fitting = [full for full in fitting if _has_size_of(name, cards()[full])]
        if fitting:
            full = min(fitting, key=lambda full: cards()[full].memory)
            return full, cards()[full]
    near = [full for full in cards() if _plain(name) and _plain(full).startswith(_plain(name))]
    if len(near) == 1:
        return near[0], cards()[near[0]]
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


def _has_size_of(name: str, card: Card) -> bool:
    """Return whether the card has the memory that a name such as "H100 80GB HBM3" gives, if it gives any."""
    size = _SIZE.search(name)
    return size is None or abs(int(size[1]) - card.memory_mib / 1024) <= 2
