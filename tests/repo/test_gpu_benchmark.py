"""benchmarks/gpu.py fits into ten minutes, keeps what it has measured, and runs on tiny shapes without a GPU."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT

import gpu
from gpu import BUDGET, CELLS, DEFAULTS, END_TO_END, GIB, LARGEST, OURS, START_UP, TUNED, Cell, measure_all, table

CELL = Cell("Mistral-7B", "lora", 64, OURS, 10)
STAND_IN = '''
"""A cell that does as its recipe is named, by the protocol of gpu_cell.py."""
import json, pathlib, subprocess, sys, time
cell, folder = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
name = cell["method"]
if name == "cannot import":
    sys.exit("ImportError: no module")
limit = float(sys.stdin.readline())
def report(**figures):
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(figures) + "\\n")
report(limit=limit, machine="stand-in")
if name == "fails":
    sys.exit("RuntimeError: planted")
if name == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    report(tokens_per_second=7.0, child=child.pid)
    time.sleep(60)
report(tokens_per_second=100.0, allocated=2**30)
'''


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the processes of the cells by quick ones; return a folder for their files."""
    for name in ("gpu_cell.py", "gpu_end_to_end.py"):
        (tmp_path / name).write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    (tmp_path / "cells").mkdir()
    return tmp_path / "cells"


def measured(folder: Path, *cells: Cell, seconds: float = 60, result: Path | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    options = argparse.Namespace(smoke=True, slowdown=1, json=result)
    measure_all(cells, options, folder, time.monotonic() + seconds, rows)
    return rows


def test_the_limits_of_all_cells_fit_into_ten_minutes() -> None:
    assert START_UP + sum(cell.seconds for cell in CELLS) < BUDGET < 600
    assert {cell.way for cell in CELLS} == {OURS, TUNED, DEFAULTS, LARGEST, END_TO_END}
    ours = {(cell.shape, cell.method) for cell in CELLS if cell.way == OURS}
    assert len(ours) == 4, "the four shapes whose memory is compared with the plan"
    assert {(c.shape, c.method) for c in CELLS if c.way in (TUNED, DEFAULTS)} <= ours, "the same run has both speeds"


def test_a_cell_that_fails_or_hangs_leaves_its_neighbours_alone(stand_ins: Path, tmp_path: Path) -> None:
    names = ("fails", "cannot import", "hangs", "passes")
    rows = measured(stand_ins, *(replace(CELL, method=name, seconds=3) for name in names), result=tmp_path / "g.json")
    assert [row["result"] for row in rows[:2]] == [
        "failed: RuntimeError: planted",
        "failed: ImportError: no module",
    ]
    assert rows[2]["result"] == "stopped after 3 s" and rows[2]["tokens_per_second"] == 7.0, "what it had is kept"
    with pytest.raises(ProcessLookupError):  # the process that the hanging cell had started
        for _ in range(50):
            os.kill(rows[2]["child"], 0)
            time.sleep(0.1)
    assert rows[3]["result"] == "passed" and rows[3]["limit"] == 3
    assert json.loads((tmp_path / "g.json").read_text(encoding="utf-8")) == rows
    assert not (tmp_path / "g.json.part").exists()


def test_a_cell_without_time_is_not_begun_and_the_first_may_start_up(stand_ins: Path) -> None:
    rows = measured(stand_ins, CELL, replace(CELL, seconds=500), seconds=60)
    assert rows[0]["limit"] == CELL.seconds + START_UP
    assert rows[1]["result"] == "not run: out of time" and "limit" not in rows[1]
    [row] = measured(stand_ins.parent, replace(CELL, seconds=60), seconds=40)
    assert row["result"] == "passed" and row["limit"] < 40, "the rest of the time is enough to begin"


def test_a_stopped_script_prints_the_measured_rows(stand_ins: Path, tmp_path: Path) -> None:
    hangs = replace(CELL, method="hangs", seconds=100)
    code = (
        f"import gpu, pathlib; gpu.HERE = pathlib.Path({str(tmp_path)!r}); "
        f"gpu.CELLS = ({replace(CELL, method='passes')!r}, {hangs!r}); gpu.main()"
    ).replace("Cell(", "gpu.Cell(")
    command = [sys.executable, "-c", code, "--smoke", "--json", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "gpu.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "| Mistral-7B | passes | 64 | ours | passed |" in out and "stand-in; 1 cells" in out


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SystemExit):
        gpu.main()
    assert "there is no GPU (nvidia-smi is not installed); --smoke tests the script" in capsys.readouterr().err


def test_the_table_compares_with_the_plan_and_with_trl() -> None:
    plan = {"planned": 4 * GIB, "planned_reserved": 5 * GIB}
    figures = {"allocated": 4.2 * GIB, "reserved": 5.5 * GIB, "tflops": 423.4, "mfu": 0.428}
    shared = {"shape": "Mistral-7B", "method": "lora", "tokens": 2048, "result": "passed"}
    rows = [
        {**shared, **plan, **figures, "way": OURS, "tokens_per_second": 9000.0, "machine": "NVIDIA H200"},
        {**shared, "way": DEFAULTS, "tokens_per_second": 3000.0},
        {**shared, "way": TUNED, "result": "failed: OutOfMemoryError"},
        {**shared, "way": LARGEST, "largest": 3072, "too_long": 3328, "planned_length": 3200},
        {**shared, "shape": "1B", "way": END_TO_END, "stages": {"train and stop": 20.5, "resume": 18.0}},
    ]
    lines = table(rows).splitlines()
    assert "| lora | 2048 | ours | passed | 4.00 | 4.20 | +5.0% | 5.00 | 5.50 | 9,000 |  | 423 | 0.43 |" in lines[2]
    assert "| TRL, defaults | passed |  |  |  |  |  | 3,000 | 3.00 |" in lines[3]
    assert "| failed: OutOfMemoryError |  |" in lines[4]
    assert "lora: 3072 tokens, 3328 ran out of memory, 3200 planned (passed)." in lines[6]
    assert lines[7] == "End to end, 1B lora: passed (train and stop 20.5 s, resume 18.0 s)."
    assert lines[-1] == "NVIDIA H200; 5 cells, each in a separate process."
    assert table([]).endswith("unknown machine; 0 cells, each in a separate process.")


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "found"), [(5000, 4864), (1000, 768), (300, 256), (200, 0), (1024, 1024)])
def test_the_largest_length_is_found_in_a_few_trials(limit: int, found: int) -> None:
    import torch

    import gpu_cell

    tried: list[int] = []
    told: dict[str, Any] = {}

    def train(length: int) -> None:
        tried.append(length)
        if length > limit:
            raise torch.OutOfMemoryError("planted")

    gpu_cell.search(train, told.update, 1024, 32768, time.perf_counter() + 60)
    assert told["largest"] == found and len(tried) <= 8
    assert told["too_long"] - found == gpu_cell.LENGTH_STEP


def test_a_search_ends_at_the_positions_of_the_model_and_with_the_time() -> None:
    import gpu_cell

    told: dict[str, Any] = {}
    gpu_cell.search(lambda _: None, told.update, 1024, 3000, time.perf_counter() + 60)
    assert told == {"largest": 3000, "too_long": None}
    told.clear()
    gpu_cell.search(lambda _: None, told.update, 1024, 3000, time.perf_counter() - 1)
    assert told == {}


def run(*options: str, result: Path) -> list[dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--smoke", "--slowdown", "5", "--json", str(result)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
    assert {row["result"] for row in rows} == {"passed"}, rows
    return rows


@pytest.mark.exhaustive
def test_cells_pass_on_tiny_shapes(tmp_path: Path) -> None:
    rows = run("--only", "Mistral-7B qlora_8gb", result=tmp_path / "gpu.json")
    assert [row["way"] for row in rows] == [OURS, DEFAULTS, LARGEST, TUNED]
    # ln 256 for 256 tokens of equal chance; zero, as for gradients that are not finite, would tell of nothing trained.
    trained = [row for row in rows if row["way"] != LARGEST]
    assert all(math.isclose(row["loss"], math.log(256), rel_tol=0.05) and row["tokens_per_second"] for row in trained)
    assert rows[0]["planned"] > 0 and "plan_failed" not in rows[0]
    assert (rows[2]["largest"], rows[2]["too_long"]) == (256, None)


@pytest.mark.exhaustive
def test_the_end_to_end_cell_trains_resumes_decodes_and_merges_a_tiny_model(tmp_path: Path) -> None:
    [row] = run("--only", END_TO_END, result=tmp_path / "gpu.json")
    assert list(row["stages"]) == ["train and stop", "resume", "decode", "merge"]
    assert row["last_loss"] > 0 and "isolation" in row["preflight"]
