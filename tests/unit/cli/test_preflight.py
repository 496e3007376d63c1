"""`qdsft preflight` prints every check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.training import preflight as preflight_stage
from qdsft.training.checks import Check

pytestmark = pytest.mark.usefixtures("bare_recipe")
Capture = pytest.CaptureFixture[str]


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
