"""Callbacks of the trainer: save and stop on a signal, and append what is logged to log.jsonl."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from qdsft.console import is_main_process
from qdsft.strict_json import to_json


class StopRequest(TrainerCallback):
    """Save and stop at the end of the step in which SIGTERM, SIGHUP or Ctrl-C arrives.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that arrived; None before one does."""
        self.stopped = False
        """Whether a signal to this or another process ended the training."""

    @property
    def number(self) -> int:
        """The signal that ended the training; SIGTERM if another process received it."""
        return self.signal or signal.SIGTERM

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask the trainer to save and stop if a signal arrived. Called after every optimizer step."""
        if self.any_process_was_asked(args):
            self.stop(state, control)
        return control

    def stop(self, state: TrainerState, control: TrainerControl) -> None:
        """Ask the trainer to save and stop, unless no step was taken yet or the last one ends the training anyway."""
        if 0 < state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True

    def any_process_was_asked(self, args: TrainingArguments) -> bool:
        """Return whether this or another process got a signal. All processes must call this together."""
        # A signal reaches the processes at different steps, and all of them must save at the same step.
        return in_any_process(self.signal is not None, args)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGTERM, SIGHUP and Ctrl-C as requests to stop inside this block.

        A signal that is ignored stays ignored, such as SIGHUP under nohup.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python handles signals in the main thread only
            return
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
        earlier = {number: signal.getsignal(number) for number in numbers}
        earlier = {number: handler for number, handler in earlier.items() if handler != signal.SIG_IGN}
        for number in earlier:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        if is_main_process():  # not print(), which the signal may have interrupted
            os.write(2, b"\nstopping after this step and a checkpoint (Ctrl-C stops at once)\n")


def in_any_process(found: bool, args: TrainingArguments) -> bool:
    """Return whether `found` is true in any process. All processes must call this together."""
    if args.world_size == 1:
        return found
    flag = torch.tensor(float(found), device=args.device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


class EarlyStopping(EarlyStoppingCallback):  # type: ignore[misc]
    """Stop as transformers' callback does, on decoded metrics too, and resume with the evaluations already counted."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Restore the count of a checkpoint, and stop at once if it was the last one."""
        super().on_train_begin(args, state, control, **options)
        kept = state.stateful_callbacks.get(type(self).__name__, {})
        self.early_stopping_patience_counter = kept.get("attributes", {}).get("early_stopping_patience_counter", 0)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Do nothing: transformers calls this before the held-out rows are decoded, and `count` is called after."""

    def count(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float]
    ) -> None:
        """Stop the training if this evaluation is one too many without a better metric.

        An evaluation whose decoding failed has no metric and is not counted.
        """
        wanted = str(args.metric_for_best_model)
        value = metrics.get(wanted if wanted.startswith("eval_") else f"eval_{wanted}", math.nan)
        if state.global_step and not math.isnan(value):  # before the first step there is no checkpoint to keep
            super().on_evaluate(args, state, control, metrics)


class JsonLog(TrainerCallback):
    """Append every log entry to log.jsonl, which other programs can follow and plot."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write one JSON line. Called by the trainer with each log entry."""
        if state.is_world_process_zero and logs:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_json({"step": state.global_step, **logs}, ascii_only=True) + "\n")
