"""A process of accelerate launch gets SIGTERM when its launcher is gone; any other process does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

CHILD = """
import os, pathlib, signal, sys, time
from qdsft.parent_death import follow_launcher
folder = pathlib.Path(sys.argv[1])
def stop(number, frame):
    (folder / "stopped").write_text(signal.Signals(number).name)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
follow_launcher()
(folder / "pid").write_text(str(os.getpid()))
time.sleep(60)
"""
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).wait()"


def wait_for(path: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.is_file() and path.read_text():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("launched", [True, False])
def test_the_end_of_the_launcher_is_a_sigterm(launched: bool, number: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"ACCELERATE_MIXED_PRECISION": "no"} if launched else {})
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)], env=environment)
    assert wait_for(tmp_path / "pid", 30)
    child = int((tmp_path / "pid").read_text())
    parent.send_signal(number)
    parent.wait(30)
    assert wait_for(tmp_path / "stopped", 10 if launched else 0.5) is launched
    if launched:
        assert (tmp_path / "stopped").read_text() == "SIGTERM"
    else:
        os.kill(child, signal.SIGKILL)
