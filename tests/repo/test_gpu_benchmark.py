"""benchmarks/gpu.py runs on tiny shapes without a GPU: every cell trains and has a planned peak."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.mark.slow
def test_every_cell_passes_on_tiny_shapes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", "--json", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert {row["result"] for row in rows} == {"passed"}
    assert {row["method"] for row in rows} == {"qlora_8gb", "qlora", "lora", "full"}
    assert {row["way"] for row in rows} == {"ours", "TRL, tuned", "TRL, defaults"}
    assert all(row["planned"] > 0 and row["tokens_per_second"] > 0 for row in rows)
    # ln 256 for 256 tokens of equal chance; zero, as for gradients that are not finite, would tell of nothing trained.
    assert all(math.isclose(row["loss"], math.log(256), rel_tol=0.05) for row in rows)


def test_what_is_out_of_time_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", "--minutes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)
    lines = done.stdout.splitlines()[2:]
    assert done.returncode == 0 and lines and all("not run: out of time" in line for line in lines)
