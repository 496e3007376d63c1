"""Memory that a training step frees is there for the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from qdsft.model.cpu_allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    torch.zeros(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    faults()
before = faults()
for _ in range(20):
    faults()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_blocks_are_not_fetched_anew_from_the_system() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") < 1000 < faults("as it is")
