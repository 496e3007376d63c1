"""Answer the steps of a decomposition with a function of the user: independent steps at the same time."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qdsft.data.decomposition import Decomposition
from qdsft.data.references import fill_references
from qdsft.errors import UserError

WORKERS = 8


@dataclass(frozen=True)
class ExecutedStep:
    """What became of one step."""

    number: int
    step: str
    """The step of the decomposition, with its references."""
    asked: str | None = None
    """The step with answers in place of references, as it was asked; None if it was not asked."""
    answer: str | None = None
    error: str | None = None
    """Why there is no answer; None if there is one."""
    started: float | None = None
    """Seconds after the start of the execution; None if it was not asked."""
    seconds: float = 0.0
    """Time that the answer took."""


@dataclass(frozen=True)
class Execution:
    """The trace of an execution: one entry per step, in the order of the decomposition."""

    steps: tuple[ExecutedStep, ...]

    @property
    def answer(self) -> str | None:
        """The answer of the last step; None if it has none."""
        return self.steps[-1].answer

    @property
    def errors(self) -> tuple[str, ...]:
        """Why steps have no answer; empty if all have one."""
        return tuple(f"step {one.number}: {one.error}" for one in self.steps if one.error is not None)


def execute(
    decomposition: Decomposition | Sequence[str],
    answer: Callable[[str], str],
    *,
    workers: int = WORKERS,
    step_timeout: float | None = None,
    timeout: float | None = None,
) -> Execution:
    """Ask `answer` each step, with the answers of earlier steps in place of `#n`, and return answers and trace.

    A step is asked as soon as the steps that it refers to are answered, so `answer` is called from up to `workers`
    threads at a time; each has a copy of the caller's context variables. A step fails if `answer` raises, or takes more
    than `step_timeout` seconds; `timeout` limits all steps together. Steps that refer to a failed one are not asked. A
    call that is too late is not stopped, but its answer is ignored, and it does not keep the interpreter from ending.

    Raises UserError for a decomposition that is not valid, and for `workers` below 1.
    """
    if not isinstance(decomposition, Decomposition):
        decomposition = Decomposition(tuple(decomposition))
    if problems := decomposition.problems():
        raise UserError(f"{problems[0]}; this cannot be executed")
    if workers < 1:
        raise UserError(f"workers is {workers}; give at least 1")
    return _Executor(decomposition, answer, workers, step_timeout, timeout).run()


class _Executor:
    def __init__(
        self,
        decomposition: Decomposition,
        answer: Callable[[str], str],
        workers: int,
        step_timeout: float | None,
        timeout: float | None,
    ) -> None:
        self._steps = decomposition.steps
        self._needs = {number: set[int]() for number in range(1, len(self._steps) + 1)}
        for source, target in decomposition.edges:
            self._needs[target].add(source)
        self._answer, self._workers, self._step_timeout = answer, workers, step_timeout
        self._begun = time.monotonic()
        self._end = None if timeout is None else self._begun + timeout
        self._running: dict[int, tuple[str, float]] = {}
        """Step -> what was asked, and when."""
        self._done: dict[int, ExecutedStep] = {}
        self._arrived: queue.SimpleQueue[tuple[int, str | None, str | None, float]] = queue.SimpleQueue()
        """Step, answer, error and time of arrival, from the threads."""

    def run(self) -> Execution:
        while len(self._done) < len(self._steps):
            self._start_ready()
            try:
                number, text, error, arrived = self._arrived.get(timeout=self._wait())
            except queue.Empty:
                self._give_up()
                continue
            if number not in self._running:
                continue  # too late
            if self._step_timeout is not None and arrived - self._running[number][1] > self._step_timeout:
                text, error = None, self._too_late()
            self._finish(number, text, error)
        return Execution(tuple(self._done[number] for number in sorted(self._done)))

    def _start_ready(self) -> None:
        for number, needs in self._needs.items():
            if number in self._done or number in self._running or not needs <= self._done.keys():
                continue
            failed = [source for source in sorted(needs) if self._done[source].error is not None]
            if failed:
                self._finish(number, None, f"not asked, because step {failed[0]} has no answer")
            elif len(self._running) < self._workers:
                self._start(number)

    def _start(self, number: int) -> None:
        answers = {source: self._done[source].answer or "" for source in self._needs[number]}
        asked = fill_references(self._steps[number - 1], answers)
        self._running[number] = (asked, time.monotonic())
        context = contextvars.copy_context()  # tracers and DSPy keep their settings there
        threading.Thread(target=context.run, args=(self._ask, number, asked), daemon=True).start()

    def _ask(self, number: int, asked: str) -> None:
        try:
            self._arrived.put((number, str(self._answer(asked)), None, time.monotonic()))
        except Exception as error:  # the function is the user's: its fault is the result of the step
            self._arrived.put((number, None, f"{type(error).__name__}: {error}", time.monotonic()))

    def _too_late(self) -> str:
        return f"no answer after {self._step_timeout:g} s"

    def _wait(self) -> float | None:
        """Return the seconds until the next time limit; None without one."""
        if not self._running:
            return 0.0
        ends = [] if self._end is None else [self._end]
        if self._step_timeout is not None:
            ends += [started + self._step_timeout for _, started in self._running.values()]
        return max(min(ends) - time.monotonic(), 0.0) if ends else None

    def _give_up(self) -> None:
        """Fail the steps whose time is over."""
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            for number in self._needs.keys() - self._done.keys():
                self._finish(number, None, "no time was left")
            return
        for number, (_, started) in list(self._running.items()):
            if self._step_timeout is not None and now - started >= self._step_timeout:
                self._finish(number, None, self._too_late())

    def _finish(self, number: int, text: str | None, error: str | None) -> None:
        step = self._steps[number - 1]
        if number not in self._running:
            self._done[number] = ExecutedStep(number, step, error=error)
            return
        asked, started = self._running.pop(number)
        seconds = time.monotonic() - started
        self._done[number] = ExecutedStep(number, step, asked, text, error, started - self._begun, seconds)
