#!/usr/bin/env python3
"""Measure the seconds from a launch to the first step, and the time of its imports by package.

Trains one step on a tiny model with random weights and prepared data. The imports are traced in a separate launch,
because tracing is slow. Each package is charged with its own modules only, not with the modules that they import.

    python benchmarks/startup.py --repeats 5
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from commands import ROOT, environment, make_llama, write_questions

TRACE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| \s*(\S+)")
SHOWN = 12


def train(folder: Path, *options: str) -> tuple[float, str]:
    """Train one step; return the seconds until it is logged, and standard error."""
    log = folder / "run" / "log.jsonl"
    log.unlink(missing_ok=True)
    command = [
        *(sys.executable, *options, "-m", "qdsft", "train", "recipes/tiny/full.yaml", "--overwrite"),
        *(f"model.name_or_path={folder / 'model'}", f"data.train={folder / 'rows.jsonl'}", "data.eval_fraction=0"),
        *(f"training.output_dir={folder / 'run'}", "training.max_steps=1", "training.logging_steps=1"),
        *("training.save_strategy=no", "training.report_to=none"),
    ]
    begin = time.perf_counter()
    with (folder / "stderr").open("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, env=environment())
        while not log.exists() and process.poll() is None:
            time.sleep(0.01)
        seconds = time.perf_counter() - begin
        status = process.wait()
        errors.seek(0)
        said = errors.read()
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said[-2000:]}")
    return seconds, said


def by_package(trace: str) -> tuple[dict[str, float], int]:
    """Return the seconds of each package's own modules, and the number of modules, from a trace of the imports."""
    seconds: dict[str, float] = defaultdict(float)
    found = TRACE.findall(trace)
    for microseconds, module in found:
        seconds[module.partition(".")[0]] += int(microseconds) / 1e6
    return seconds, len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="launches (default: 5)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder / "rows.jsonl", 200)
        make_llama(folder / "model")
        train(folder)  # prepares the data and fills the file cache
        launches = [train(folder)[0] for _ in range(options.repeats)]
        packages, modules = by_package(train(folder, "-X", "importtime")[1])
    print(f"launch to first step: {statistics.median(launches):.1f} s ({min(launches):.1f} to {max(launches):.1f})")
    print(f"{modules} modules, {sum(packages.values()):.1f} s of imports while traced\n\n| package | s |\n|---|---|")
    largest = sorted(packages.items(), key=lambda item: -item[1])
    for package, seconds in largest[:SHOWN]:
        print(f"| {package} | {seconds:.2f} |")
    if options.json:
        figures = {"seconds": launches, "modules": modules, "packages": dict(largest)}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
