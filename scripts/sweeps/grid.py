"""Expand a sweep into its runs: every combination of the listed values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from qdsft.errors import UserError

LONGEST_NAME = 120
_OPENING, _CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Grid:
    """Overrides that all runs share, and those in which they differ."""

    fixed: tuple[str, ...]
    """Overrides with one value, as they were written."""
    axes: dict[str, tuple[str, ...]]
    """`section.key` -> its values as text, in the order given; two or more each."""

    def points(self) -> list[dict[str, str]]:
        """Every combination, `{section.key: value}`; the last axis varies fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


def parse_grid(overrides: Sequence[str]) -> Grid:
    """Read `section.key=value` and `section.key=value,value,...`.

    Raises UserError for what is no override, a key or value that is given twice, an empty value, brackets or
    quotation marks that do not close, a key that the sweep itself sets, and if nothing varies.
    """
    fixed: list[str] = []
    axes: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override; write section.key=value,value")
        if key in seen:
            raise UserError(f"{key} is given twice; list its values after one =, separated by commas")
        if key == "training.output_dir":
            raise UserError("training.output_dir: the sweep chooses a folder for each run; name the sweep with --name")
        seen.add(key)
        values = split_values(key, text)
        if len(values) == 1:
            fixed.append(override)
        else:
            axes[key] = values
    if not axes:
        raise UserError("nothing varies; give a key at least two values, such as training.learning_rate=1e-4,2e-4")
    return Grid(tuple(fixed), axes)


def split_values(key: str, text: str) -> tuple[str, ...]:
    """Return the values of `key`, separated by commas outside of brackets and quotes."""
    values, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and (not values[-1].strip() or values[-1].rstrip()[-1] in "[{,:"):
            quote = character  # an apostrophe inside a word is not a quote
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        if character == "," and not quote and depth == 0:
            values.append("")
        else:
            values[-1] += character
        if depth < 0:
            break
    if depth or quote:
        what = "a quotation mark" if quote else "a bracket"
        raise UserError(f"{key}={text}: {what} does not match; close it, or quote the whole value")
    values = [value.strip() for value in values]
    if len(values) > 1 and "" in values:
        raise UserError(f"{key}={text}: a value is empty; remove the comma, or quote a text that has one")
    if len(set(values)) < len(values):
        raise UserError(f"{key}={text}: a value is given twice; remove one")
    return tuple(values)


def run_name(point: dict[str, str]) -> str:
    """Return the folder name of a run. It depends only on the values, so that a grid can grow."""
    text = "_".join(f"{key}={value}" for key, value in point.items())
    name = re.sub(r"[^\w.,=+\[\]-]+", "-", text)[:LONGEST_NAME]
    if name == text:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:8]}"
