#!/usr/bin/env python3
"""Compare one and two processes on a CPU: updates per second and peak memory per process, at the same global batch.

Each launch is the command a user types, with one thread per process: full fine-tuning of a tiny model with random
weights. The launches take turns. Ratios are relative to one process, medians over the turns.

    python benchmarks/processes.py --steps 40 --repeats 3 --json processes.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from commands import make_llama, run, write_questions

LAUNCHES = {"one process": ("cpu", 1), "ddp": ("ddp", 2), "zero2": ("zero2", 2), "zero3": ("zero3", 2)}
BASE = "one process"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="updates per run (default: 40)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, model = Path(folder, "rows.jsonl"), Path(folder, "model")
        write_questions(data, 2000)
        make_llama(model, "--hidden-size", "128", "--layers", "3")
        turns = [
            {
                name: measure(Path(folder, name), data, model, config, count, options.steps)
                for name, (config, count) in LAUNCHES.items()
            }
            for _ in range(options.repeats)
        ]
    table = {name: summary(turns, name) for name in LAUNCHES}
    print("| launch | updates/s | ratio | GiB per process | ratio |\n|---|---|---|---|---|")
    for name, row in table.items():
        print(
            f"| {name} | {row['updates_per_second']:.2f} | {row['speed_ratio']:.2f} | {row['peak_gib']:.2f} "
            f"| {row['memory_ratio']:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def measure(run_dir: Path, data: Path, model: Path, config: str, processes: int, steps: int) -> dict[str, float]:
    """Return the updates per second of the training loop, and the peak memory of the first process in GiB."""
    run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
            *("--config_file", f"accelerate_configs/{config}.yaml", "--num_processes", str(processes)),
            *("--main_process_port", "0", "scripts/run_sft.py", "recipes/tiny/full.yaml", "--overwrite"),
            *(f"model.name_or_path={model}", f"data.train={data}", f"training.output_dir={run_dir}"),
            *(f"training.max_steps={steps}", "training.report_to=none", "training.save_strategy=no"),
            "training.eval_strategy=no",
            *("training.per_device_train_batch_size=4", "training.global_batch_size=16"),
        ],
        OMP_NUM_THREADS="1",
    )
    results = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["results"]
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = next(line["train_runtime"] for line in log if "train_runtime" in line)
    return {"updates_per_second": steps / seconds, "peak_gib": results["peak_memory_gib"]}


def summary(turns: list[dict[str, dict[str, float]]], name: str) -> dict[str, float]:
    """Return medians over the turns; ratios are formed within a turn."""

    def median(key: str, *, ratio: bool) -> float:
        return statistics.median(turn[name][key] / (turn[BASE][key] if ratio else 1) for turn in turns)

    return {
        "updates_per_second": median("updates_per_second", ratio=False),
        "speed_ratio": median("updates_per_second", ratio=True),
        "peak_gib": median("peak_gib", ratio=False),
        "memory_ratio": median("peak_gib", ratio=True),
    }


if __name__ == "__main__":
    main()
