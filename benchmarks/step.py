#!/usr/bin/env python3
"""Compare the seconds to train the same samples with the same batches: qdsft and TRL's SFTTrainer.

TRL's runs import nothing of this project. "defaults" changes only what the comparison requires (data, batch, steps,
learning rate). "tuned" sets what an expert sets on a CPU: no gradient checkpointing, float32, batches of similar
lengths. Every run is a new process; runs take turns, and ratios are formed within a turn. If the load average is above
the number of threads, other programs used the machine: compare the ratios, not the seconds.

    python benchmarks/step.py --recipe recipes/tiny/full.yaml --rows 640 --batch 16 --repeats 3
    python benchmarks/step.py --recipe recipes/gemma3_270m/lora_cpu.yaml --model models/gemma-3-270m --rows 64 --batch 8
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import run, write_questions

SCHEDULE = ("learning_rate", "lr_scheduler_type", "warmup_steps", "adam_beta2")
"""Settings of the optimizer that all runs take from the recipe."""
OURS, DEFAULTS, TUNED = "ours", "TRL, defaults", "TRL, tuned"


def stock(settings: dict[str, Any], *, tuned: bool) -> dict[str, float]:
    """Train with TRL alone; `settings` come from `write_settings`."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    options: dict[str, Any] = {
        "output_dir": settings["output"],
        "use_cpu": not torch.cuda.is_available(),
        "per_device_train_batch_size": settings["batch"],
        "max_steps": settings["steps"],
        "save_strategy": "no",
        "report_to": "none",
        **settings["training"],
    }
    if tuned:
        options |= {"bf16": False, "gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    tokenizer.chat_template = settings["template"]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32),
        args=SFTConfig(**options),
        train_dataset=Dataset.from_list(settings["rows"]),
        processing_class=tokenizer,
        peft_config=LoraConfig(**settings["lora"]) if settings["lora"] else None,
    )
    return {"seconds": trainer.train().metrics["train_runtime"], "loss": trainer.state.log_history[-1]["train_loss"]}


def ours(recipe: str, overrides: list[str], output: Path) -> dict[str, float]:
    """Run `qdsft train` and return the seconds and the loss of its training loop."""
    command = [
        sys.executable,
        "-m",
        "qdsft",
        "train",
        recipe,
        *overrides,
        f"training.output_dir={output}",
        "--overwrite",
    ]
    run(command)
    log = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = next(line for line in log if "train_runtime" in line)
    return {"seconds": last["train_runtime"], "loss": last["train_loss"]}


def write_settings(recipe: str, overrides: list[str], place: Path, batch: int, steps: int) -> Path:
    """Write the conversations, template, LoRA and batch of the recipe for TRL's runs, as JSON."""
    from qdsft.data.split import stream_split
    from qdsft.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    template = loaded.chat_template_path()
    rows = [
        {"prompt": list(example.messages), "completion": [{"role": "assistant", "content": example.completion}]}
        for _, example in stream_split(loaded)
    ]
    settings = {
        "model": loaded.model.name_or_path,
        "template": template.read_text(encoding="utf-8") if template else None,
        "rows": rows,
        "lora": {"task_type": "CAUSAL_LM", **loaded.lora} if loaded.lora else None,
        "batch": batch,
        "steps": steps,
        "training": {key: loaded.training[key] for key in SCHEDULE if key in loaded.training},
        "output": str(place / "stock"),
    }
    path = place / "settings.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def measure(options: argparse.Namespace, place: Path) -> list[dict[str, dict[str, float]]]:
    """Return, for each turn, the seconds and the mean loss of every way."""
    steps = options.rows // options.batch
    data = place / "rows.jsonl"
    write_questions(data, options.rows, "--max-steps", "3")
    overrides = [
        *(f"data.train={data}", "data.eval=null", "data.eval_fraction=0", f"training.max_steps={steps}"),
        *(f"training.per_device_train_batch_size={options.batch}", f"training.global_batch_size={options.batch}"),
        *("training.packing=false", "training.train_sampling_strategy=group_by_length"),
        *("training.save_strategy=no", "training.report_to=none"),
        *([f"model.name_or_path={options.model.resolve()}"] if options.model else []),
    ]
    settings = write_settings(options.recipe, overrides, place, options.batch, steps)
    turns = []
    for turn in range(options.repeats):
        print(f"turn {turn + 1}: load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        ways = {OURS: ours(options.recipe, overrides, place / f"ours-{turn}")}
        for name, flag in ((TUNED, "--tuned"), (DEFAULTS, "--defaults")):
            said = run([sys.executable, __file__, "--settings", str(settings), flag])
            ways[name] = json.loads(said.splitlines()[-1])
        turns.append(ways)
        seconds = ", ".join(f"{name} {way['seconds']:.1f}" for name, way in ways.items())
        print(f"turn {turn + 1}: {seconds} s; load average {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="recipes/tiny/full.yaml")
    parser.add_argument("--model", type=Path, help="model folder to use instead of the recipe's")
    parser.add_argument("--rows", type=int, default=640, help="samples to train (default: 640)")
    parser.add_argument("--batch", type=int, default=16, help="samples per update (default: 16)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tuned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--defaults", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.settings:
        print(json.dumps(stock(json.loads(options.settings.read_text(encoding="utf-8")), tuned=options.tuned)))
        return
    with tempfile.TemporaryDirectory() as folder:
        turns = measure(options, Path(folder))
    print("| | seconds | samples/s | ours is faster by | mean loss |\n|---|---|---|---|---|")
    table = {}
    for name in (OURS, TUNED, DEFAULTS):
        seconds = statistics.median(turn[name]["seconds"] for turn in turns)
        ratio = statistics.median(turn[name]["seconds"] / turn[OURS]["seconds"] for turn in turns)
        table[name] = {"seconds": seconds, "ratio": ratio, "loss": turns[0][name]["loss"]}
        print(f"| {name} | {seconds:.1f} | {options.rows / seconds:.1f} | {ratio:.2f} | {table[name]['loss']:.3f} |")
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, **table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
