"""Facts about named cards, from cards.json: their memory, and speeds that were measured on them."""

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
    """One finished run of a recipe on a card; nothing modelled may stand here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    """`<folder>-<file>` of the recipe, as Recipe.name gives it."""
    tokens_per_second: float = Field(gt=0)
    """Training tokens of a run divided by its training time, on one card."""
    usd_per_hour: float | None = Field(default=None, gt=0)
    """What an hour of the card cost there, if it was rented."""
    source: str
    """Where the figure is recorded: a page of this repository, or a run's run.json."""


class Card(BaseModel):
    """A graphics card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_mib: int = Field(gt=0)
    """Total memory in MiB, as nvidia-smi reports it."""
    bfloat16: bool
    """Whether it computes in bfloat16; training falls back to float16 otherwise."""
    measured: tuple[Measured, ...] = ()

    @property
    def memory(self) -> int:
        """Total memory in bytes."""
        return self.memory_mib * 2**20

    def find_measured(self, recipe_name: str) -> Measured | None:
        """The measured speed of a recipe on this card, or None."""
        return next((entry for entry in self.measured if entry.recipe == recipe_name), None)


@dataclass(frozen=True)
class Target:
    """The cards that a run is planned for."""

    memory: int
    """Bytes of one card."""
    count: int = 1
    zero: int = 0
    """ZeRO stage; 0 is one card, or DDP."""
    name: str | None = None
    card: Card | None = None

    @property
    def bfloat16(self) -> bool:
        """Whether the cards compute in bfloat16; unnamed ones are taken to."""
        return self.card is None or self.card.bfloat16


@cache
def cards() -> dict[str, Card]:
    """Name -> card, as shipped."""
    path = Path(__file__).with_name("cards.json")
    return {name: Card.model_validate(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}


def find_card(name: str) -> tuple[str, Card]:
    """(its full name, the card); case, blanks, `-`, `_` and the maker's name are not looked at.

    Raises UserError, with the known names, for a card that is not listed or a name that fits several.
    """
    known = {_plain(full): full for full in cards()}
    wanted = _plain(name)
    fitting = [wanted] if wanted in known else [plain for plain in known if wanted and plain.startswith(wanted)]
    if len(fitting) == 1:
        full = known[fitting[0]]
        return full, cards()[full]
    near = [known[plain] for plain in fitting or get_close_matches(wanted, known, 1)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"--gpu {name}: not listed; {hint}known: {', '.join(cards())}; or give --gpu-memory in GiB instead")


def _plain(name: str) -> str:
    return re.sub(r"nvidia|geforce|tesla|[\s_-]", "", name.lower())
