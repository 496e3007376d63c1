"""What qdsft writes is JSON that every program reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qdsft.files import write_json
from qdsft.strict_json import to_json

NAN, INF = float("nan"), float("inf")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"loss": NAN}, '{"loss": null}'),
        ([INF, {"a": [-INF, 1.5]}], '[null, {"a": [null, 1.5]}]'),
        ({"x": (NAN, "가")}, '{"x": [null, "가"]}'),
        ({"loss": 1.0, "n": 3}, '{"loss": 1.0, "n": 3}'),
    ],
)
def test_nan_becomes_null(value: Any, text: str) -> None:
    assert to_json(value) == text


def test_a_file_of_results_is_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    write_json(tmp_path / "metrics.json", {"eval_loss": NAN, "grad_norm": [INF]})
    found = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert found == {"eval_loss": None, "grad_norm": [None]}


NO_NUMBERS = {
    "deploy/gguf/modelfile.py",
    "deploy/gguf/llama_cpp.py",
    "deploy/merge_weights.py",
    "deploy/serve.py",
    "deploy/demo/app.py",
    "recipe/idle_keys.py",
    "recipe/schema.py",
    "runs/card.py",
    "data/record.py",
    "data/json_reader.py",
    "hashing.py",
    "model/loading.py",
    "tokenization/prepared.py",
}
"""Modules that hash or show JSON, or write texts and integers."""


def test_nothing_else_writes_nan() -> None:
    """Elsewhere json.dumps refuses NaN, or `strict_json.to_json` is used."""
    for path in sorted((ROOT / "qdsft").rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"json\.dumps?\(", line) and "allow_nan=False" not in line:
                assert path.relative_to(ROOT / "qdsft").as_posix() in NO_NUMBERS, f"{path}: {line}"
