"""`qdsft recipe`, `preflight` and `train` hand over to their stages and report how they ended."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.errors import Interrupted, UserError
from qdsft.training import preflight as preflight_stage
from qdsft.training import train as train_stage
from qdsft.training.checks import Check

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


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (None, 0, "next: qdsft evaluate run --baseline"),
        (Interrupted("stopped and saved at step 3", signal.SIGTERM), 143, "stopped and saved at step 3"),
        (KeyboardInterrupt(), 130, "interrupted; resume with: qdsft train r.yaml --resume"),
        (UserError("r.yaml: wrong"), 1, "error: r.yaml: wrong"),
    ],
)
def test_the_end_of_a_training_is_a_status_and_a_line(
    ending: BaseException | None, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    given: dict[str, bool] = {}

    def run(_: Any, *, resume: bool, overwrite: bool) -> Path:
        given.update(resume=resume, overwrite=overwrite)
        if ending:
            raise ending
        return Path("run")

    monkeypatch.setattr(train_stage, "train", run)
    assert main(["train", "r.yaml", "--resume"]) == status
    assert said in capsys.readouterr().err and given == {"resume": True, "overwrite": False}


def test_resume_and_overwrite_contradict(capsys: Capture) -> None:
    assert main(["train", "r.yaml", "--resume", "--overwrite"]) == 1
    assert "--resume and --overwrite contradict each other" in capsys.readouterr().err
