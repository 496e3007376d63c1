"""Work of others ends in time, and an outer timer still rings."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable

import pytest

from qdsft.time_limit import TookTooLong, time_limit


def loop() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    "work",
    [loop, lambda: 9**9**9, lambda: re.fullmatch(r"(\w+\.?)+!", "model.layers.31.self_attn.q_proj.weight.default")],
)
def test_long_work_is_ended(work: Callable[[], object]) -> None:
    start = time.monotonic()
    with pytest.raises(TookTooLong, match=r"^took over 0\.2 seconds$"), time_limit(0.2):
        work()
    assert time.monotonic() - start < 5


def test_an_outer_timer_and_handler_come_back() -> None:
    handler, before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with time_limit(5):
        assert signal.getsignal(signal.SIGALRM) is not handler
    assert signal.getsignal(signal.SIGALRM) is handler
    after = signal.getitimer(signal.ITIMER_REAL)
    assert (after[0] > 0) == (before[0] > 0)
    with pytest.raises(TookTooLong, match="0\\.2"), time_limit(0.2):
        with time_limit(5):
            pass
        loop()


def test_other_threads_have_no_limit() -> None:
    found: list[int] = []

    def work() -> None:
        with time_limit(0.001):
            time.sleep(0.01)
            found.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [1]
