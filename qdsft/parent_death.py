"""End a process with its launcher: `accelerate launch` that is killed would leave the training running."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from qdsft.environment import variable

_PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h: the signal that a process gets when its parent ends."""


def follow_launcher() -> None:
    """Ask Linux to send this process SIGTERM when its parent ends, if accelerate launch started it.

    Training then saves a checkpoint and stops; other commands end. Without accelerate launch a parent may well end
    first, such as a shell that ran `nohup qdsft train &`. Does nothing on other systems.
    """
    if sys.platform != "linux" or not variable("ACCELERATE_MIXED_PRECISION"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # ended between the two calls
        os.kill(os.getpid(), signal.SIGTERM)
