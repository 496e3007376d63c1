"""`make_schema.py --check`: which differences of two schemas make the committed one unusable."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import make_schema
from qdsft.tested_versions import Deviation

COMMITTED: dict[str, Any] = json.loads(make_schema.PATH.read_text(encoding="utf-8"))
OTHER_TRL = [Deviation("trl", "1.16.3", "1.16.0", "<1.17,>=1.16.0", True)]


def described(schema: dict[str, Any]) -> None:
    schema["properties"]["training"]["properties"]["learning_rate"]["description"] = "Another text."


def removed(schema: dict[str, Any]) -> None:
    del schema["properties"]["lora"]["properties"]["r"]


def added(schema: dict[str, Any]) -> None:
    schema["properties"]["training"]["properties"]["warp"] = {"type": "boolean", "default": False}


def other_default(schema: dict[str, Any]) -> None:
    schema["properties"]["training"]["properties"]["learning_rate"]["default"] = 1.0


def other_section(schema: dict[str, Any]) -> None:
    schema["properties"]["seed"]["minimum"] = 1


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (described, []),
        (removed, ["lora.r"]),
        (added, ["training.warp"]),
        (other_default, ["training.learning_rate"]),
        (other_section, ["seed"]),
    ],
)
def test_changed_keys(change: Callable[[dict[str, Any]], None], keys: list[str]) -> None:
    built = copy.deepcopy(COMMITTED)
    change(built)
    assert make_schema.changed_keys(COMMITTED, built) == keys


@pytest.mark.parametrize(
    ("change", "other_release", "status"),
    [(None, False, 0), (described, False, 1), (described, True, 0), (removed, True, 1), (other_default, True, 1)],
)
def test_another_release_is_refused_only_for_its_keys(
    change: Callable[[dict[str, Any]], None] | None,
    other_release: bool,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = copy.deepcopy(COMMITTED)
    if change:
        change(built)
    monkeypatch.setattr(make_schema, "deviations", lambda: OTHER_TRL if other_release else [])
    assert make_schema.check(json.dumps(built, indent=1, ensure_ascii=False) + "\n") == status
