"""Questions of several people, answered one at a time: who came first is first, who leaves makes room."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from qdsft.deploy.demo.page import show_complete, show_partial
from qdsft.errors import UserError
from qdsft.inference.side_by_side import Column

MOST_WAITING = 20
"""Further questions are refused: nobody waits that long."""
LONGEST_QUESTION = 20_000
"""Characters."""

Event = dict[str, Any]
"""What a page is told: `{"kind": "waiting", "ahead": n}`, then for each column `begin`, `partial` many times, and
`answer` or `error`, each with its `"column"`; an `error` without one concerns the whole question."""


class _Left(Exception):
    """Whoever asked has gone, or has pressed Stop."""


@dataclass(eq=False)
class _Job:
    question: str
    columns: list[int]
    tell: Callable[[Event | None], None]
    """Hands an event to the loop of the web server; None is the end."""
    left: threading.Event = field(default_factory=threading.Event)


class Answering:
    """A queue of questions with one thread that decodes; `stream` may be called by many tasks of one event loop."""

    def __init__(self, columns: Sequence[Column], *, constrained: bool = False) -> None:
        self.columns = list(columns)
        self._constrained = constrained
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoding")
        self._jobs: list[_Job] = []
        self._changing = threading.Lock()

    async def stream(self, question: str, columns: Sequence[int]) -> AsyncGenerator[Event, None]:
        """The events of one question, as they happen. Closing the iterator ends the decoding at the next token.

        `columns` are places in `self.columns`. Raises UserError for a question that is empty, too long, or one too
        many.
        """
        self._check(question, columns)
        loop = asyncio.get_running_loop()
        # Without a limit, so that a page that reads slowly, or not at all, holds up nobody else.
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def tell(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        job = _Job(question, list(columns), tell)
        with self._changing:
            ahead = len(self._jobs)
            self._jobs.append(job)
        waiting = self._thread.submit(self._work, job)
        try:
            yield {"kind": "waiting", "ahead": ahead}
            while (event := await events.get()) is not None:
                yield event
        finally:
            job.left.set()
            if waiting.cancel():
                self._remove(job)

    def close(self) -> None:
        """End all that is decoded or waits."""
        for job in list(self._jobs):
            job.left.set()
            job.tell(None)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _check(self, question: str, columns: Sequence[int]) -> None:
        if not question.strip():
            raise UserError("the question is empty; write one")
        if len(question) > LONGEST_QUESTION:
            raise UserError(f"the question has {len(question)} characters; shorten it to {LONGEST_QUESTION}")
        if not columns or not set(columns) <= set(range(len(self.columns))):
            raise UserError("no such model; choose at least one of those on the page")
        if len(self._jobs) > MOST_WAITING:
            raise UserError(f"{MOST_WAITING} questions wait already; try again in a while")

    def _work(self, job: _Job) -> None:
        """In the thread: all columns of one question."""
        try:
            for place in job.columns:
                self._answer(job, place)
        except _Left:
            pass
        except Exception:  # nothing else would show it: nobody asks the thread's future
            traceback.print_exc()
            job.tell({"kind": "error", "message": "the demo has a fault; what it is stands in the terminal"})
        finally:
            self._remove(job)
            job.tell(None)

    def _remove(self, job: _Job) -> None:
        with self._changing:  # the loop and the thread both take jobs away
            if job not in self._jobs:
                return
            place = self._jobs.index(job)
            del self._jobs[place]
            for ahead, other in enumerate(self._jobs[place:], start=place):
                if ahead:
                    other.tell({"kind": "waiting", "ahead": ahead})

    def _answer(self, job: _Job, place: int) -> None:
        def send(kind: str, **content: Any) -> None:
            if job.left.is_set():
                raise _Left
            job.tell({"kind": kind, "column": place, **content})

        task = self.columns[place].run.task
        start = time.monotonic()
        send("begin")
        try:
            with self.columns[place].ready() as run:
                answer = run.watch(
                    task.messages(task.typed_record(job.question)),
                    lambda text: send("partial", **show_partial(task, text)),
                    constrained=self._constrained,
                )
            shown = show_complete(task, job.question, answer.text)
            seconds = round(time.monotonic() - start, 1)
            send("answer", **shown, stopped=answer.stopped, tokens=answer.tokens, seconds=seconds)
        except UserError as error:
            send("error", message=str(error))
