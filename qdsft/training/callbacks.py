"""SIGTERM and Ctrl-C: finish the step, save, and leave; a second Ctrl-C leaves at once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from qdsft.console import is_main_process


class StopRequest(TrainerCallback):
    """Asks the trainer to save and to stop at the end of the step in which a signal came."""

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that came, and None as long as none has."""
        self.stopped = False
        """Whether training was ended by it, or by one that another process got."""

    @property
    def number(self) -> int:
        """The signal that ended the training; SIGTERM where another process got it."""
        return self.signal or signal.SIGTERM

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Called by the trainer behind every optimizer step."""
        if self._any_process_was_asked(args) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True
        return control

    def _any_process_was_asked(self, args: TrainingArguments) -> bool:
        # A signal reaches the processes at different steps; a save needs all of them at the same.
        if args.world_size == 1:
            return self.signal is not None
        asked = torch.tensor(float(self.signal is not None), device=PartialState().device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked.item())

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM and Ctrl-C as requests to stop, as long as the block runs."""
        earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
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
        if is_main_process():  # print() may be what was interrupted
            os.write(2, b"\nstopping: this step is finished and saved first (Ctrl-C leaves at once)\n")


class JsonLog(TrainerCallback):
    """Appends every logged line to log.jsonl, so that a run can be watched and plotted."""

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
        """Called by the trainer with what it logs."""
        if state.is_world_process_zero and logs:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
