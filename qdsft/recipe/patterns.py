"""Check the regular expressions of a lora section, which PEFT matches with the name of every module."""

from __future__ import annotations

import re
from collections.abc import Iterator

from qdsft.errors import UserError, cut
from qdsft.recipe.recipe import Recipe
from qdsft.time_limit import TookTooLong, time_limit

SECONDS = 1.0
_NAMES = ("model.language_model.layers.31.self_attn.q_proj", "model.layers.10.mlp.experts.127.down_projection_x")
"""Module names as long as those of large models."""


def check_patterns(recipe: Recipe) -> None:
    """Raise UserError for a pattern that is not valid, or that takes long to match a module name."""
    for key, pattern in _patterns(recipe):
        where = f"{recipe.where(f'lora.{key}')}: lora.{key}"
        try:
            with time_limit(SECONDS):
                for name in _NAMES:
                    re.fullmatch(pattern, name)
        except re.error as error:
            raise UserError(f"{where} is not a regular expression: {error}; correct it") from error
        except (TookTooLong, RecursionError, OverflowError) as error:
            message = f"{where}: the pattern {cut(pattern)!r} takes over {SECONDS:g} second to match one module name"
            raise UserError(f"{message}; use no repetition inside a repetition, such as (a+)+") from error


def _patterns(recipe: Recipe) -> Iterator[tuple[str, str]]:
    lora = recipe.lora or {}
    for key in ("target_modules", "exclude_modules"):
        if isinstance(lora.get(key), str):
            yield key, lora[key]
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in lora.get(key) or {}:
            yield key, rf"(.*\.)?({pattern})$"  # as PEFT extends it
