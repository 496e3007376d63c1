#!/usr/bin/env python3
"""Memory and speed on a GPU: models of random weights in the shapes of the recipes, ours against TRL, in one call.

    python benchmarks/gpu.py --minutes 9 --json gpu.json     # on a machine with a card; nothing is downloaded
    python benchmarks/gpu.py --smoke                         # tiny shapes on a CPU, to see that it runs

Beside torch, transformers, peft and accelerate it needs the wheels bitsandbytes, trl, datasets, dill and multiprocess.
With pydantic, pyyaml and jinja2 as well, the figure of `qdsft plan` stands beside each measured peak, and "ours"
computes as few layers twice as the plan allows; without them it does so with all.

Ways: "ours" (packed rows, 16-bit arithmetic, as the recipes have it), "TRL, tuned" (the same but all layers computed
twice, as TRL does by default), "TRL, defaults" (padded rows, AdamW in float32; QLoRA computes in float32, as `trl sft
--load_in_4bit` does). A cell is a micro-batch of T tokens: one packed row, or T / 128 padded samples. "8 GB" is
qlora_8gb with PyTorch's allocator held to 6.2 GiB, what a display leaves of such a card; elsewhere it is what qlora is.
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
"""TRL is measured at that many of the lengths, the first ones."""
OURS, TUNED, DEFAULTS = "ours", "TRL, tuned", "TRL, defaults"
GIB = 2**30
SMALL_CARD = 6.2 * GIB
FULL_CARD = 1.15
"""A cell that is planned at more than this share of the card is not tried."""
TINY = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 4, "head_dim": 16, "vocab_size": 256},
}
CELL_SECONDS = 25
"""A cell ends with the step that passes this."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measurement."""

    shape: str
    method: str
    tokens: int
    way: str
    card: str = "whole"


def cells(lengths: tuple[int, ...]) -> list[Cell]:
    """All of them, the most wanted first, those that share a model together: what time does not suffice for is last."""
    found = []
    for shape in SHAPES:
        found += [Cell(shape, "qlora_8gb", tokens, OURS, "8 GB") for tokens in lengths]
        found.append(Cell(shape, "qlora_8gb", lengths[0], DEFAULTS, "8 GB"))
    for method in METHODS:
        for shape in SHAPES:
            for way in (OURS, TUNED, DEFAULTS):
                found += [Cell(shape, method, tokens, way) for tokens in lengths[: None if way == OURS else COMPARED]]
    return found


def plan(cell: Cell, config: dict[str, Any], memory: float) -> tuple[float | None, bool, int]:
    """(planned bytes of the allocator, layers computed twice?, every n-th): by qdsft's planner, where it is at hand."""
    try:
        sys.path.insert(0, str(ROOT))
        from qdsft.planning.memory.activation_checkpointing import least_recomputation
        from qdsft.planning.memory.setup import read_setup
        from qdsft.planning.memory.shapes import read_shapes
        from qdsft.planning.memory.training_memory import CONTEXT, training_peak
        from qdsft.recipe import load_recipe
    except ImportError:
        return None, True, 1
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
    return training_peak(shapes, setup).allocated, setup.checkpointing, setup.every_n_layers


class Bench:
    """Measures cells, keeping the model from one to the next where they share it."""

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
        """The figures of a cell, or what became of it."""
        import gpu_models

        config = json.loads((ROOT / "tests" / "configs" / f"{SHAPES[cell.shape]}.json").read_text(encoding="utf-8"))
        if self.smoke:
            config |= {key: value for key, value in TINY.items() if key in config or key == "head_dim"}
        small = cell.card == "8 GB"
        limit = min(SMALL_CARD, self.memory) if small else self.memory
        planned, again, every = plan(cell, config, limit)
        row = dataclasses.asdict(cell) | {"planned": planned}
        if planned is not None and planned > FULL_CARD * limit:
            return row | {"result": f"not tried: {planned / GIB:.1f} GiB planned"}
        if self.device == "cuda":
            self.torch.cuda.set_per_process_memory_fraction(limit / self.memory if small else 1.0)
        try:
            model = self._model(cell, config, gpu_models)
            lora = None if cell.method == "full" else {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
            deadline = min(time.perf_counter() + CELL_SECONDS, end)
            figures = gpu_models.train_cell(
                model, self._way(cell, gpu_models, again, every), lora, cell.tokens, self.steps, deadline, self.output
            )
        except self.torch.OutOfMemoryError:
            self.kept = self.model = None
            gpu_models.clean()
            return row | {"result": "out of memory"}
        parameters = sum(weight.numel() * (2 if weight.dtype.itemsize == 1 else 1) for weight in model.parameters())
        share = gpu_models.mfu(figures["tokens_per_second"], parameters, lora=lora is not None)
        return row | figures | {"mfu": share, "recomputed": f"1/{every}" if again else "none", "result": "passed"}

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

    def _way(self, cell: Cell, gpu_models: Any, again: bool, every: int) -> Any:
        eight_bit = cell.method.startswith("qlora") and cell.way != DEFAULTS and self.device == "cuda"
        optimizer = "adamw_8bit" if eight_bit else "adamw_torch_fused"
        bf16 = self.device == "cuda"
        return gpu_models.Way(cell.way != DEFAULTS, optimizer, again, every, bf16)


def line(row: dict[str, Any]) -> str:
    """A row of the table."""

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
    *("tokens/s", "samples/s", "MFU", "computed twice"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="end by then, whatever is left (9)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, after each cell")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU: does it run?")
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
                except Exception as error:  # a cell that fails must not take the others with it
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
