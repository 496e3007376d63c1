#!/usr/bin/env python3
"""Compare QLoRA with adapters in bfloat16 and in float32: held-out loss, answers, and unchanged adapter elements.

Both train with a 4-bit base and bfloat16 arithmetic, on a CPU as on a GPU, from the same initial values and with the
same batches; only the number format that the optimizer updates differs. "unchanged" is the share of elements whose
value an update leaves as it was, averaged over the last third of the updates.

    python benchmarks/adapter_dtype.py --model models/gemma-3-270m --data data/strategyqa.jsonl
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = "recipes/gemma3_270m/lora_cpu.yaml"
DTYPES = ("bfloat16", "float32")


def split_rows(data: Path, place: Path, train: int, held_out: int) -> list[str]:
    """Write the first rows of `data` as training and held-out files, and return the overrides that name them."""
    lines = data.read_text(encoding="utf-8").splitlines()
    files = {"train": lines[:train], "eval": lines[train : train + held_out]}
    for name, rows in files.items():
        (place / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return [f"data.{name}={place / f'{name}.jsonl'}" for name in files]


def unchanged_callback() -> Any:
    """Return a TrainerCallback whose `shares` has, for each update, the share of unchanged elements of A and of B."""
    import torch
    from transformers import TrainerCallback

    class Unchanged(TrainerCallback):
        def __init__(self) -> None:
            self.shares: list[dict[str, float]] = []
            self.before: dict[str, torch.Tensor] = {}

        def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
            self.before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

        def on_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
            same, total = {"A": 0, "B": 0}, {"A": 0, "B": 0}
            for name, weight in model.named_parameters():
                if name in self.before:
                    matrix = "A" if "lora_A" in name else "B"
                    same[matrix] += int((weight.detach() == self.before[name]).sum())
                    total[matrix] += weight.numel()
            self.shares.append({matrix: same[matrix] / total[matrix] for matrix in same})

    return Unchanged()


def train(options: argparse.Namespace, data: list[str], place: Path, seed: int, dtype: str) -> dict[str, Any]:
    """Train once and return what was measured."""
    import torch

    from qdsft.data.task import make_task
    from qdsft.model.device import Machine
    from qdsft.recipe import load_recipe
    from qdsft.runs.eval_rows import read_eval_rows
    from qdsft.training.decode_held_out import TrainingEvaluation
    from qdsft.training.run_setup import build_run, prepare_run

    recipe = load_recipe(
        RECIPE,
        [
            *data,
            f"seed={seed}",
            f"model.name_or_path={options.model.resolve()}",
            "quantization={load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true}",
            *(f"training.output_dir={place / f'{dtype}-{seed}'}", f"training.max_length={options.tokens}"),
            *(f"training.num_train_epochs={options.epochs}", f"training.learning_rate={options.learning_rate}"),
            *("training.save_strategy=no", "training.report_to=none", "training.activation_checkpointing=false"),
        ],
    )
    inputs = prepare_run(recipe)
    if inputs.machine.device_type == "cpu":
        inputs = dataclasses.replace(inputs, machine=Machine("cpu", "CPU in bfloat16", torch.bfloat16))
    trainer = build_run(inputs).trainer
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(getattr(torch, dtype))
    unchanged = unchanged_callback()
    trainer.add_callback(unchanged)
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    loss = trainer.evaluate()["eval_loss"]
    examples = read_eval_rows(inputs.prepared.folder, options.decoded)
    settings = recipe.evaluation.model_copy(update={"batch_size": options.decoded, "max_new_tokens": 96})
    answers = TrainingEvaluation(examples, inputs.tokenizer, inputs.stop_ids, settings, make_task(recipe))(trainer)
    last = unchanged.shares[-(len(unchanged.shares) // 3) :]
    return {
        "adapters": dtype,
        "seed": seed,
        "updates": len(unchanged.shares),
        "seconds": seconds,
        "loss": loss,
        "unchanged_A": statistics.mean(share["A"] for share in last),
        "unchanged_B": statistics.mean(share["B"] for share in last),
        **{name.removeprefix("eval_"): value for name, value in answers.items()},
    }


def main() -> None:
    """Train with each seed and number format, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON Lines with question and sub_questions")
    parser.add_argument("--rows", type=int, default=200, help="rows to train on")
    parser.add_argument("--held-out", type=int, default=40, help="rows after them, for the loss")
    parser.add_argument("--decoded", type=int, default=24, help="held-out rows to answer")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a packed row, which makes one update")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as place:
        data = split_rows(options.data, Path(place), options.rows, options.held_out)
        print("| adapters | seed | updates | seconds | loss | SARI | exact match | unchanged A | unchanged B |")
        print("|---|---|---|---|---|---|---|---|---|")
        for seed in options.seeds:
            for dtype in DTYPES:
                run = train(options, data, Path(place), seed, dtype)
                found.append(run)
                print(
                    f"| {dtype} | {seed} | {run['updates']} | {run['seconds']:.0f} | {run['loss']:.4f} | "
                    f"{run['sari']:.4f} | {run['exact_match']:.3f} | {run['unchanged_A']:.2f} | "
                    f"{run['unchanged_B']:.2f} |",
                    flush=True,
                )
                if options.json:
                    options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
