#!/usr/bin/env python3
"""Measure memory and speed on a GPU, of qdsft's settings and TRL's, on random models in the shapes of the recipes.

    python benchmarks/gpu.py --minutes 9 --json gpu.json     # on a machine with a GPU; downloads nothing
    python benchmarks/gpu.py --smoke                         # tiny shapes on a CPU, to test the script

Besides torch, transformers, peft and accelerate it requires the wheels bitsandbytes, trl, datasets, dill and
multiprocess. With pydantic, pyyaml and jinja2 it also prints the peak that `qdsft plan` predicts, and "ours" recomputes
only the layers that the plan requires; without them "ours" recomputes every layer.

Ways: "ours" (packed rows, 16-bit arithmetic, as in the recipes), "TRL, tuned" (the same with every layer recomputed,
TRL's default), "TRL, defaults" (padded rows, AdamW in float32; QLoRA computes in float32, as in `trl sft
--load_in_4bit`). A cell is a micro-batch of T tokens: one packed row, or T / 128 padded samples. "8 GB" is qlora_8gb
with PyTorch's allocator limited to 6.2 GiB, the part of such a GPU that a display leaves free.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {"Llama-2-7B": "llama-2-7b", "Mistral-7B": "mistral-7b-v0.3", "Polyglot-5.8B": "polyglot-ko-5.8b"}
METHODS = ("qlora", "lora", "full")
LENGTHS = (1024, 4096, 512, 2048)
COMPARED = 2
"""Number of lengths, from the first, at which TRL is measured."""
OURS, TUNED, DEFAULTS = "ours", "TRL, tuned", "TRL, defaults"
GIB = 2**30
SMALL_GPU = 6.2 * GIB
FULL_GPU = 1.15
"""A cell with a planned peak above this share of the memory is not run."""
TINY = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256},
}
CELL_SECONDS = 25
"""A cell ends with the first step after this time."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement."""

    shape: str
    method: str
    tokens: int
    way: str
    card: str = "whole"


def cells(lengths: tuple[int, ...]) -> list[Cell]:
    """Return all cells in the order of their importance, with cells of the same model together."""
    found = []
    for shape in SHAPES:
        found += [Cell(shape, "qlora_8gb", tokens, OURS, "8 GB") for tokens in lengths]
        found.append(Cell(shape, "qlora_8gb", lengths[0], DEFAULTS, "8 GB"))
    for method in METHODS:
        for shape in SHAPES:
            for way in (OURS, TUNED, DEFAULTS):
                found += [Cell(shape, method, tokens, way) for tokens in lengths[: None if way == OURS else COMPARED]]
    return found


@dataclasses.dataclass(frozen=True)
class Planned:
    """The plan of a cell: bytes of the allocator (None if unknown) and activation checkpointing."""

    bytes: float | None = None
    checkpointing: bool = True
    every_n_layers: int = 1


def plan(cell: Cell, config: dict[str, Any], memory: float) -> Planned:
    """Return the plan of qdsft's planner; every layer is checkpointed if the planner cannot be imported."""
    try:
        sys.path.insert(0, str(ROOT))
        from qdsft.planning.memory.activation_checkpointing import least_recomputation
        from qdsft.planning.memory.setup import read_setup
        from qdsft.planning.memory.shapes import read_shapes
        from qdsft.planning.memory.training_memory import CONTEXT, training_peak
        from qdsft.recipe import load_recipe
    except ImportError:
        return Planned()
    folder = {"Llama-2-7B": "llama2", "Mistral-7B": "mistral", "Polyglot-5.8B": "koalpaca"}[cell.shape]
    recipe = load_recipe(ROOT / "recipes" / folder / f"{cell.method}.yaml")
    setup = read_setup(recipe, length=cell.tokens)
    shapes = read_shapes(config, cell.shape)
    if cell.way == OURS and setup.adaptive:
        setup = least_recomputation(shapes, setup, int(memory) + CONTEXT)
    elif cell.way != OURS:
        setup = dataclasses.replace(setup, checkpointing=True, every_n_layers=1)
    if cell.way == DEFAULTS:
        rows = max(cell.tokens // 128, 1)
        setup = dataclasses.replace(setup, optimizer="adamw_torch_fused", packed=False, micro_batch=rows, length=250)
        if cell.method.startswith("qlora"):
            setup = dataclasses.replace(setup, stream=4, compute=4, dequantized=4, autocast=False)
    return Planned(training_peak(shapes, setup).allocated, setup.checkpointing, setup.every_n_layers)


class Bench:
    """Measure cells, and reuse the model for cells that share it."""

    def __init__(self, options: argparse.Namespace, output: str) -> None:
        import torch

        self.torch, self.output = torch, output
        self.device = "cuda" if torch.cuda.is_available() and not options.smoke else "cpu"
        self.memory = torch.cuda.get_device_properties(0).total_memory if self.device == "cuda" else 1000 * GIB
        self.steps = 1 if options.smoke else 6
        self.smoke = options.smoke
        self.kept: tuple[Any, ...] | None = None
        self.model: Any = None

    def measure(self, cell: Cell, end: float) -> dict[str, Any]:
        """Return the figures of a cell, or the reason why there are none."""
        import gpu_models

        config = json.loads((ROOT / "tests" / "configs" / f"{SHAPES[cell.shape]}.json").read_text(encoding="utf-8"))
        if self.smoke:
            config |= {key: value for key, value in TINY.items() if key in config or key == "head_dim"}
        small = cell.card == "8 GB"
        limit = min(SMALL_GPU, self.memory) if small else self.memory
        planned = plan(cell, config, limit)
        row = dataclasses.asdict(cell) | {"planned": planned.bytes}
        if planned.bytes is not None and planned.bytes > FULL_GPU * limit:
            return row | {"result": f"not run: {planned.bytes / GIB:.1f} GiB planned"}
        if self.device == "cuda":
            self.torch.cuda.set_per_process_memory_fraction(limit / self.memory if small else 1.0)
        try:
            model = self._model(cell, config, gpu_models)
            lora = None if cell.method == "full" else {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
            deadline = min(time.perf_counter() + CELL_SECONDS, end)
            figures = gpu_models.train_cell(
                model, self._way(cell, gpu_models, planned), lora, cell.tokens, self.steps, deadline, self.output
            )
        except self.torch.OutOfMemoryError:
            self.kept = self.model = None
            gpu_models.clean()
            return row | {"result": "out of memory"}
        parameters = sum(weight.numel() * (2 if weight.dtype.itemsize == 1 else 1) for weight in model.parameters())
        share = gpu_models.mfu(figures["tokens_per_second"], parameters, lora=lora is not None)
        recomputed = f"1/{planned.every_n_layers}" if planned.checkpointing else "none"
        return row | figures | {"mfu": share, "recomputed": recomputed, "result": "passed"}

    def _model(self, cell: Cell, config: dict[str, Any], gpu_models: Any) -> Any:
        torch, full = self.torch, cell.method == "full"
        plain = cell.way == DEFAULTS and cell.method.startswith("qlora")  # `trl sft` loads in float32
        dtype = torch.float32 if full or plain or self.device == "cpu" else torch.bfloat16
        wanted = (cell.shape, cell.method.startswith("qlora"), dtype, full, cell.card)
        if self.kept != wanted:
            self.kept = self.model = None
            gpu_models.clean()
            bits4 = cell.method.startswith("qlora")
            self.model = gpu_models.make_model(config, self.device, bits4=bits4, dtype=dtype, compute=dtype)
            self.kept = wanted
        return self.model

    def _way(self, cell: Cell, gpu_models: Any, planned: Planned) -> Any:
        eight_bit = cell.method.startswith("qlora") and cell.way != DEFAULTS and self.device == "cuda"
        optimizer = "adamw_8bit" if eight_bit else "adamw_torch_fused"
        bf16 = self.device == "cuda"
        return gpu_models.Way(cell.way != DEFAULTS, optimizer, planned.checkpointing, planned.every_n_layers, bf16)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""

    def gib(key: str) -> str:
        return f"{row[key] / GIB:.2f}" if row.get(key) else ""

    def number(key: str, digits: int) -> str:
        return f"{row[key]:,.{digits}f}" if row.get(key) else ""

    off = row["peak_allocated"] / row["planned"] - 1 if row.get("peak_allocated") and row["planned"] else None
    texts = (row["shape"], row["method"], row["card"], row["tokens"], row["way"], row["result"])
    figures = (gib("planned"), gib("peak_allocated"), f"{off:+.0%}" if off is not None else "", gib("peak_reserved"))
    speeds = (number("tokens_per_second", 0), number("samples_per_second", 1), number("mfu", 2))
    return f"| {' | '.join(map(str, (*texts, *figures, *speeds, row.get('recomputed', ''))))} |"


COLUMNS = (
    *("shape", "method", "card", "T", "way", "result", "planned", "allocated", "off", "reserved"),
    *("tokens/s", "samples/s", "MFU", "recomputed"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=9, help="time limit; the remaining cells are skipped (default: 9)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file after each cell")
    parser.add_argument("--smoke", action="store_true", help="run tiny shapes on a CPU to test the script")
    options = parser.parse_args()
    begin = time.perf_counter()
    end = begin + 60 * options.minutes - 10
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as output:
        bench = Bench(options, output)
        for cell in cells((128,) if options.smoke else LENGTHS):
            if time.perf_counter() > end:
                row = dataclasses.asdict(cell) | {"planned": None, "result": "not run: out of time"}
            else:
                try:
                    row = bench.measure(cell, end)
                except Exception as error:  # one failed cell must not end the others
                    first = str(error).strip().splitlines() or [""]
                    row = dataclasses.asdict(cell) | {"planned": None}
                    row["result"] = f"failed: {type(error).__name__}: {first[0][:120]}"
                    bench.kept = bench.model = None
            rows.append(row)
            print(line(row), flush=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
