"""End work that a template or pattern of a recipe, model or data file makes too long."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLong(Exception):
    """Work was ended by `time_limit`."""


class _Alarm(BaseException):
    """Passes through `except Exception` in the code that is ended, such as Jinja's."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong inside the block after `seconds`.

    Interrupts Python code, regular expressions and arithmetic. Without effect on Windows and outside the main thread,
    where there are no timer signals.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Alarm

    before = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Alarm as error:
        raise TookTooLong(f"took over {seconds:g} seconds") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
