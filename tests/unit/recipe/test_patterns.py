"""Regular expressions in a lora section."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qdsft.errors import UserError
from qdsft.recipe import load_recipe

BASE = "model: {name_or_path: m}\ndata: {train: t.jsonl}\nlora:\n"


def load(tmp_path: Path, lora: str) -> None:
    (tmp_path / "r.yaml").write_text(BASE + lora, encoding="utf-8")
    load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "lora",
    [
        r"  target_modules: '.*\.(q|v)_proj'",
        "  target_modules: [q_proj]\n  exclude_modules: '.*layers.0.*'",
        "  target_modules: all-linear\n  rank_pattern: {q_proj: 4, 'layers.[0-9]+.mlp.*': 2}",
    ],
)
def test_patterns_of_every_day(tmp_path: Path, lora: str) -> None:
    load(tmp_path, lora + "\n")


@pytest.mark.parametrize(
    ("lora", "key"),
    [
        (r"  target_modules: '(\w+\.?)+!'", "target_modules"),
        (r"  target_modules: '(.*.*)*(.*.*)*x!'", "target_modules"),
        (r"  exclude_modules: '((a|[a-z_.0-9])+)+!'", "exclude_modules"),
        (r"  rank_pattern: {'([^!]+)+!': 4}", "rank_pattern"),
        (r"  alpha_pattern: {'(\w*\.*)*!': 4}", "alpha_pattern"),
    ],
)
def test_a_pattern_without_end_is_refused_in_time(tmp_path: Path, lora: str, key: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"r\.yaml:\d+: lora\.{key}: the pattern '.*' takes over 1 second"):
        load(tmp_path, lora + "\n")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("lora", ["  exclude_modules: '['", "  rank_pattern: {'(': 4}", "  target_modules: 'a{2,1}'"])
def test_a_pattern_that_is_none(tmp_path: Path, lora: str) -> None:
    with pytest.raises(UserError, match="is not a regular expression: "):
        load(tmp_path, lora + "\n")
