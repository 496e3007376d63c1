"""A signal asks the trainer to save and stop, and every log entry is one line of JSON."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from qdsft.training.callbacks import EarlyStopping, JsonLog, StopRequest


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


@pytest.fixture
def best(tmp_path: Path) -> TrainingArguments:
    options: dict[str, Any] = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "sari", "greater_is_better": True}
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **options)


def evaluations(stopping: EarlyStopping, arguments: TrainingArguments, *values: float) -> list[bool]:
    """Whether the training stops after each evaluation, with the best value kept as the trainer does."""
    state, stopped = TrainerState(global_step=1, max_steps=100), []
    for value in values:
        control = TrainerControl()
        stopping.count(arguments, state, control, {"eval_sari": value})
        stopped.append(control.should_training_stop)
        if not math.isnan(value):
            state.best_metric = value if state.best_metric is None else max(state.best_metric, value)
    return stopped


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ((0.1, 0.2, 0.3, 0.4), [False] * 4),
        ((0.5, 0.4, 0.4), [False, False, True]),
        ((0.5, 0.4, 0.6, 0.6, 0.5), [False, False, False, False, True]),
        ((0.5, math.nan, math.nan, 0.4), [False] * 4),
    ],
)
def test_training_stops_after_evaluations_without_a_better_metric(
    best: TrainingArguments, values: tuple[float, ...], stops: list[bool]
) -> None:
    assert evaluations(EarlyStopping(2), best, *values) == stops


def test_the_evaluation_before_the_first_step_is_not_counted(best: TrainingArguments) -> None:
    stopping, control = EarlyStopping(1), TrainerControl()
    stopping.count(best, TrainerState(global_step=0, best_metric=0.9), control, {"eval_sari": 0.1})
    assert not control.should_training_stop and stopping.early_stopping_patience_counter == 0


@pytest.mark.parametrize(("counted", "stops"), [(0, False), (1, False), (2, True)])
def test_a_resume_goes_on_counting(best: TrainingArguments, counted: int, stops: bool) -> None:
    saved = EarlyStopping(2)
    saved.early_stopping_patience_counter = counted
    state, control, resumed = TrainerState(global_step=4), TrainerControl(), EarlyStopping(2)
    state.stateful_callbacks = {"EarlyStopping": saved.state()}
    resumed.on_train_begin(best, state, control)
    assert resumed.early_stopping_patience_counter == counted and control.should_training_stop is stops
