"""A signal asks the trainer to save and stop, and every log entry is one line of JSON."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from qdsft.training.callbacks import JsonLog, StopRequest


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def step(stop: StopRequest, arguments: TrainingArguments, number: int = 1) -> TrainerControl:
    return stop.on_step_end(arguments, TrainerState(global_step=number, max_steps=10), TrainerControl())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_at_the_end_of_the_step(
    number: int, arguments: TrainingArguments, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = StopRequest()
    before = signal.getsignal(number)
    with stop.listening():
        assert not step(stop, arguments).should_training_stop
        os.kill(os.getpid(), number)
        control = step(stop, arguments)
    assert control.should_save and control.should_training_stop
    assert stop.stopped and stop.number == number
    assert signal.getsignal(number) is before
    assert "stopping after this step and a checkpoint" in capfd.readouterr().err


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not(arguments: TrainingArguments) -> None:
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            step(stop, arguments)


def test_the_last_step_ends_the_training_by_itself(arguments: TrainingArguments) -> None:
    stop = StopRequest()
    stop.signal = signal.SIGTERM
    assert not step(stop, arguments, number=10).should_save and not stop.stopped


def test_a_log_entry_is_a_line_of_the_main_process(arguments: TrainingArguments, tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl")

    def write(logs: dict[str, Any] | None, *, main: bool) -> None:
        log.on_log(arguments, TrainerState(global_step=3, is_world_process_zero=main), TrainerControl(), logs)

    write({"loss": 1.5}, main=True)
    write({"loss": 9.0}, main=False)
    write(None, main=True)
    write({"eval_loss": 2.0}, main=True)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 3, "loss": 1.5}, {"step": 3, "eval_loss": 2.0}]
