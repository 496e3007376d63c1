#!/usr/bin/env python3
"""Measure memory and speed on a GPU, of qdsft and of TRL alone, on random models in the shapes of the recipes.

    python benchmarks/gpu.py --json gpu.json                 # 10 minutes on one GPU; downloads nothing
    python benchmarks/gpu.py --smoke --only lora             # tiny shapes on a CPU, to test the script

Requires what `make setup` installs. Each cell of the table is a process with a time limit: a cell that fails, hangs or
is killed leaves the others alone. While a cell uses the GPU, the next one imports its libraries and plans its memory on
the CPU. The JSON file is written after each cell; the table is printed at the end, also after Ctrl-C.

Ways: "ours" (the shipped recipe, built as `qdsft train` builds it), "TRL, tuned" (SFTTrainer with packed rows, 16-bit
arithmetic, double quantization and 8-bit AdamW; every layer is recomputed, TRL's default), "TRL, defaults" (padded
rows, AdamW in float32; QLoRA computes in float32, as in `trl sft --load_in_4bit`). A cell is a micro-batch of T tokens:
one packed row, or T / 128 padded samples. "6.2 GiB" limits PyTorch's allocator to the part of an 8 GB card that a
display leaves free. TFLOP/s and MFU count 4 operations per weight and token, without recomputation and attention.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
BUDGET = 585
"""Seconds for everything, start-up included: 10 minutes minus the time to end the script."""
START_UP = 25
"""Seconds until the first cell has imported its libraries; the later ones do it while another cell runs."""
END_TO_END, LARGEST, OURS, TUNED, DEFAULTS = "end to end", "largest length", "ours", "TRL, tuned", "TRL, defaults"
GIB = 2**30


@dataclass(frozen=True)
class Cell:
    """One measurement, made in a separate process."""

    shape: str
    method: str
    """Name of the recipe: qlora_8gb or lora."""
    tokens: int
    way: str
    seconds: int
    """Time limit from the moment when the GPU is free; the process is killed after it."""


CELLS = (
    Cell("Mistral-7B", "qlora_8gb", 1024, OURS, 40),
    Cell("1B", "qlora_8gb", 256, END_TO_END, 150),
    Cell("Mistral-7B", "lora", 2048, OURS, 35),
    Cell("Mistral-7B", "qlora_8gb", 1024, DEFAULTS, 40),
    Cell("Mistral-7B", "lora", 2048, DEFAULTS, 35),
    Cell("Llama-2-7B", "qlora_8gb", 1024, OURS, 35),
    Cell("Polyglot-5.8B", "qlora_8gb", 1024, OURS, 35),
    Cell("Mistral-7B", "qlora_8gb", 1024, LARGEST, 70),
    Cell("Mistral-7B", "qlora_8gb", 1024, TUNED, 35),
    Cell("Mistral-7B", "lora", 2048, TUNED, 35),
)
"""The most important cells come first, because cells after the time limit do not run."""


class Child:
    """The process of a cell, which imports its libraries at once and measures when it is told to."""

    def __init__(self, cell: Cell, options: argparse.Namespace, folder: Path) -> None:
        self.cell, self.results, self.log = cell, folder / "results.jsonl", folder / "log.txt"
        folder.mkdir()
        script = HERE / ("gpu_end_to_end.py" if cell.way == END_TO_END else "gpu_cell.py")
        command = [sys.executable, str(script), json.dumps(asdict(cell)), str(folder)]
        # One GPU, as the plan assumes; none for tiny shapes.
        gpus = "" if options.smoke else os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, *(["--smoke"] if options.smoke else [])],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": gpus},
                text=True,
                start_new_session=True,  # so that kill reaches the commands that it starts
            )

    def measure(self, seconds: float) -> dict[str, Any]:
        """Let the process measure for at most `seconds`; return the figures, or what went wrong."""
        begin = time.monotonic()
        try:
            stdin: IO[str] | None = self.process.stdin
            assert stdin is not None
            stdin.write(f"{seconds}\n")
            stdin.close()
            status = self.process.wait(seconds)
            failure = "" if status == 0 else f"failed: {self._last_line()}"
        except subprocess.TimeoutExpired:
            failure = f"stopped after {seconds:.0f} s"
        except BrokenPipeError:
            failure = f"failed: {self._last_line()}"
        self.kill()
        row: dict[str, Any] = {**asdict(self.cell), "result": failure or "passed"}
        row.update(self._figures())
        return {**row, "result": failure or row["result"], "took": round(time.monotonic() - begin, 1)}

    def kill(self) -> None:
        """End the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _figures(self) -> dict[str, Any]:
        """Return what the process has written so far; later lines replace earlier ones."""
        found: dict[str, Any] = {}
        lines = self.results.read_text(encoding="utf-8").splitlines() if self.results.exists() else []
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line of a killed process may be cut
                found.update(json.loads(line))
        return found

    def _last_line(self) -> str:
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1][:160] if lines else f"status {self.process.poll()}"


def measure_all(
    cells: Sequence[Cell], options: argparse.Namespace, folder: Path, end: float, rows: list[dict[str, Any]]
) -> None:
    """Measure the cells in order and append their rows; a cell that would outlast `end` gets the rest of the time."""
    waiting = [Child(cell, options, folder / str(number)) for number, cell in enumerate(cells[:1])]
    try:
        for number, cell in enumerate(cells):
            child = waiting.pop()
            if number + 1 < len(cells):
                waiting.append(Child(cells[number + 1], options, folder / str(number + 1)))
            start_up = START_UP if number == 0 else 0
            left = end - time.monotonic()
            if left > cell.seconds / 2:
                row = child.measure(min((cell.seconds + start_up) * options.slowdown, left))
            else:
                child.kill()
                row = {**asdict(cell), "result": "not run: out of time"}
            rows.append(row)
            print(f"{cell.shape} {cell.method} {cell.way}: {row['result']}", file=sys.stderr, flush=True)
            if options.json:
                write(options.json, rows)
    finally:
        for child in waiting:
            child.kill()


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as JSON. The file is complete at any time."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


COLUMNS = (
    *("shape", "recipe", "T", "way", "result", "planned GiB", "allocated GiB", "off"),
    *("planned reserved", "reserved", "tokens/s", "ours is faster by", "TFLOP/s", "MFU"),
)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return everything that was measured as Markdown, ready to paste into docs/benchmarks.md."""
    trained = [row for row in rows if row["way"] in (OURS, TUNED, DEFAULTS)]
    lines = [f"| {' | '.join(COLUMNS)} |", f"{'|---' * len(COLUMNS)}|", *(_line(row, trained) for row in trained), ""]
    for row in rows:
        if row["way"] == LARGEST:
            lines.append(f"Largest length inside 6.2 GiB, {row['shape']} {row['method']}: {_largest(row)}.")
        if row["way"] == END_TO_END:
            stages = ", ".join(f"{name} {seconds} s" for name, seconds in row.get("stages", {}).items())
            lines.append(f"End to end, {row['shape']} {row['method']}: {row['result']} ({stages or 'no stage ended'}).")
    machine = next((row["machine"] for row in rows if row.get("machine")), "unknown machine")
    return "\n".join([*lines, "", f"{machine}; {len(rows)} cells, each in a separate process."])


def _line(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    ours = next(
        (o for o in rows if (o["shape"], o["method"], o["way"]) == (row["shape"], row["method"], OURS)),
        dict[str, Any](),
    )
    speeds = ours.get("tokens_per_second"), row.get("tokens_per_second")
    faster = f"{speeds[0] / speeds[1]:.2f}" if speeds[0] and speeds[1] and row["way"] != OURS else ""
    off = f"{row['allocated'] / row['planned'] - 1:+.1%}" if row.get("allocated") and row.get("planned") else ""
    memory = [_gib(row, "planned"), _gib(row, "allocated"), off, _gib(row, "planned_reserved"), _gib(row, "reserved")]
    speed = [f"{speeds[1]:,.0f}" if speeds[1] else "", faster, _number(row, "tflops", 0), _number(row, "mfu", 2)]
    texts = [str(row[key]) for key in ("shape", "method", "tokens", "way", "result")]
    return f"| {' | '.join([*texts, *memory, *speed])} |"


def _same(row: dict[str, Any]) -> dict[str, Any]:
    """Return what our cell of the same model and recipe has in common with this one."""
    return {"shape": row["shape"], "method": row["method"], "way": OURS}


def _largest(row: dict[str, Any]) -> str:
    failed = f", {row['too_long']} ran out of memory" if row.get("too_long") else ""
    planned = f", {row['planned_length']} planned" if row.get("planned_length") else ""
    return f"{row.get('largest', 'none')} tokens{failed}{planned} ({row['result']})"


def _gib(row: dict[str, Any], key: str) -> str:
    return f"{row[key] / GIB:.2f}" if row.get(key) else ""


def _number(row: dict[str, Any], key: str, digits: int) -> str:
    return f"{row[key]:,.{digits}f}" if row.get(key) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=BUDGET, help=f"time for everything (default: {BUDGET})")
    parser.add_argument("--slowdown", type=float, default=1, help="multiply the limit of each cell (default: 1)")
    parser.add_argument("--only", default="", help="run only cells whose shape, recipe and way contain this text")
    parser.add_argument("--json", type=Path, help="write the figures to this file after each cell")
    parser.add_argument("--smoke", action="store_true", help="run tiny shapes on a CPU to test the script")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    if not options.smoke and shutil.which("nvidia-smi") is None:
        parser.error("there is no GPU (nvidia-smi is not installed); --smoke tests the script on a CPU")
    cells = [cell for cell in CELLS if options.only in f"{cell.shape} {cell.method} {cell.way}"]
    if not cells:
        parser.error(f"--only {options.only}: no such cell")
    rows: list[dict[str, Any]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="qdsft-gpu-") as folder:
        try:
            measure_all(cells, options, Path(folder), end, rows)
        finally:
            print(table(rows), flush=True)


if __name__ == "__main__":
    main()
