"""`qdsft preflight` prints every check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.training import preflight as preflight_stage
from qdsft.training.checks import Check

RECIPE = "model:\n  name_or_path: user/model\ndata:\n  train: t.jsonl\n"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def test_preflight_prints_every_check_and_counts_those_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def checks(_: Any) -> Iterator[Check]:
        yield Check("data", True, "3 rows")
        yield Check("model", False, "no such module")

    monkeypatch.setattr(preflight_stage, "preflight", checks)
    assert main(["preflight", "r.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == ["data         ok      3 rows", "model        FAILED  no such module"]
    assert err == "error: 1 of 2 checks failed; each says what to do\n"
