"""`qdsft recipe` as JSON."""

from __future__ import annotations

import json

import pytest

from qdsft.cli.main import main

pytestmark = pytest.mark.usefixtures("bare_recipe")
Capture = pytest.CaptureFixture[str]


def test_recipe_as_json_has_values_origins_method_and_state(capsys: Capture) -> None:
    assert main(["recipe", "r.yaml", "lora.r=4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["run_state"]) == ("lora", "none") and found["values"]["lora"] == {"r": 4}
    assert found["origins"]["lora.r"] == "command line" and found["origins"]["data.train"] == "r.yaml:4"
