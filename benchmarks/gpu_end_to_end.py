"""The last cell of gpu.py: train a 1B model with scripts/run_sft.py, stop it, resume, decode, merge.

Makes the model and the data at once, and starts when a line with the time limit comes on stdin.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from commands import ROOT, environment, make_llama, write_questions

SIZE = ("--hidden-size", "2048", "--layers", "18")
"""0.99 billion weights."""
STEPS = 12


def main() -> None:
    cell, folder, smoke = json.loads(sys.argv[1]), Path(sys.argv[2]), "--smoke" in sys.argv
    model, data, run_dir = folder / "model", folder / "rows.jsonl", folder / "run"
    stages: dict[str, float] = {}
    begin = time.monotonic()

    def report(stage: str, **figures: Any) -> None:
        nonlocal begin
        stages[stage] = round(time.monotonic() - begin, 1)
        begin = time.monotonic()
        with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stages": stages, **figures}) + "\n")

    make_llama(model, *(() if smoke else SIZE))
    write_questions(data, 400, "--max-steps", "3")
    sys.stdin.readline()
    begin = time.monotonic()
    train = [
        *(sys.executable, "scripts/run_sft.py", f"recipes/llama2/{cell['method']}.yaml"),
        *(f"model.name_or_path={model}", f"data.train={data}", "data.eval=null", f"training.output_dir={run_dir}"),
        *(f"training.max_length={cell['tokens']}", f"training.max_steps={STEPS}", "training.report_to=none"),
        *("training.global_batch_size=2", "evaluation.max_new_tokens=32"),
    ]
    if smoke:
        train.append("model.dtype=float32")
    stop_after_some_steps(train, run_dir, folder / "train.txt")
    report("train and stop")
    call([*train, "--resume"])
    results = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["results"]
    assert results["steps"] == STEPS, f"{results['steps']} steps instead of {STEPS}"
    preflight = {check["name"]: check["found"] for check in results["preflight"]}
    report("resume", last_loss=results["last_loss"], peak_gib=results["peak_memory_gib"], preflight=preflight)
    call([sys.executable, "-m", "qdsft", "evaluate", str(run_dir), "--samples", "8"])
    report("decode")
    call([sys.executable, "-m", "qdsft", "merge", str(run_dir), "--output", str(folder / "merged"), "--samples", "4"])
    report("merge")


def stop_after_some_steps(command: list[str], run_dir: Path, log: Path) -> None:
    """Run a training and ask it to stop, by SIGTERM, as soon as it has logged a step; it saves a checkpoint then."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=file, stderr=file)
        while process.poll() is None:
            if (run_dir / "log.jsonl").exists() and '"loss"' in (run_dir / "log.jsonl").read_text(encoding="utf-8"):
                process.send_signal(signal.SIGTERM)
                break
            time.sleep(0.2)
        status = process.wait()
    if status not in (0, 128 + signal.SIGTERM):
        sys.exit(f"training ended with status {status}: {last_line(log.read_text(encoding='utf-8'))}")
    checkpoints = list(run_dir.glob("checkpoint-*"))
    assert checkpoints or status == 0, "the stopped training left no checkpoint"


def call(command: list[str]) -> None:
    """Run a command; end this cell with its last line if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:4])}: {last_line(done.stderr or done.stdout)}")


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")[:200]


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    main()
