"""What qdsft writes is JSON that every program reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qdsft.errors import UserError
from qdsft.files import write_json
from qdsft.strict_json import read_object, to_json

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
    "recipe/new_text.py",
    "recipe/schema.py",
    "runs/card.py",
    "data/record.py",
    "data/json_reader.py",
    "hashing.py",
    "model/loading.py",
    "model/template.py",
    "tokenization/prepared.py",
    "training/memory_trace/tracer.py",
}
"""Modules that hash or show JSON, or write texts and integers."""


def test_nothing_else_writes_nan() -> None:
    """Elsewhere json.dumps refuses NaN, or `strict_json.to_json` is used."""
    for path in sorted((ROOT / "qdsft").rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"json\.dumps?\(", line) and "allow_nan=False" not in line:
                assert path.relative_to(ROOT / "qdsft").as_posix() in NO_NUMBERS, f"{path}: {line}"


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"7", b"{", b"[" * 100_000, b"\xff", "서울".encode("cp949")])
def test_another_programs_file_that_holds_no_object(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: not (a )?JSON.*; put it back$"):
        read_object(path, "put it back")


def test_an_object_is_read_and_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_object(tmp_path / "a.json", "x") == {"a": [1]}
    for path, reason in ((tmp_path / "nope", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"cannot be read: {reason}.*; put it back"):
            read_object(path, "put it back")
