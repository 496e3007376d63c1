"""`qdsft recipe` as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdsft.cli.main import main

RECIPE = "model:\n  name_or_path: user/model\ndata:\n  train: t.jsonl\n"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def test_recipe_as_json_has_values_origins_method_and_state(capsys: Capture) -> None:
    assert main(["recipe", "r.yaml", "lora.r=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["run_state"]) == ("lora", "none") and found["values"]["lora"] == {"r": 4}
    assert found["origins"]["lora.r"] == "command line" and found["origins"]["data.train"] == "r.yaml:4"
