"""`qdsft train` hands over to its stage and reports how it ended."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from qdsft.cli.main import main
from qdsft.errors import Interrupted, UserError
from qdsft.training import train as train_stage

pytestmark = pytest.mark.usefixtures("bare_recipe")
Capture = pytest.CaptureFixture[str]


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
