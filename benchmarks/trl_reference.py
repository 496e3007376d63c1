#!/usr/bin/env python3
"""Fine-tune question decomposition with plain TRL, as an experienced user would: the baseline of the benchmarks.

Imports nothing of this project. Each row ``{"question": ..., "sub_questions": [...]}`` becomes a
prompt-completion pair, so that TRL takes the loss on the completion only and appends the EOS token.

    python benchmarks/trl_reference.py --model models/gemma-3-270m --train train.jsonl --output out
    python benchmarks/trl_reference.py --model models/gemma-3-270m --evaluate eval.jsonl --output out
    python benchmarks/trl_reference.py --model models/gemma-3-270m --evaluate eval.jsonl --output base --base

``--stock`` leaves LoRA targets, learning rate, batch size and epochs at the defaults of PEFT and TRL.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def to_prompt(row: Row) -> str:
    return f"{row['question']}\n"


def to_completion(row: Row) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(row["sub_questions"], 1))


def versions() -> dict[str, str]:
    import importlib.metadata

    names = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def train(args: argparse.Namespace) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": to_prompt(row), "completion": to_completion(row)} for row in read_rows(args.train)]
    fixed: dict[str, Any] = {
        "output_dir": str(args.output / "trainer"),
        "bf16": False,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "max_steps": args.max_steps,
        "seed": args.seed,
    }
    if args.stock:
        lora = LoraConfig(task_type="CAUSAL_LM")
        config = SFTConfig(**fixed)
    else:
        lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
        config = SFTConfig(
            **fixed,
            per_device_train_batch_size=8,
            num_train_epochs=args.epochs,
            learning_rate=args.learning_rate,
        )
    trainer = SFTTrainer(model=str(args.model), args=config, train_dataset=Dataset.from_list(rows), peft_config=lora)
    if args.verbose_steps:
        from transformers import TrainerCallback

        class Clock(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                print(
                    f"step {state.global_step}/{state.max_steps} at {time.perf_counter() - begin:.1f} s",
                    flush=True,
                )

        trainer.add_callback(Clock())
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = trainer.train()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    trainer.save_model(str(args.output / "adapter"))

    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    steps = trainer.state.global_step
    tokens = round(sum(lengths) * (trainer.state.epoch or 0))
    parameters = [p.numel() for p in trainer.model.parameters() if p.requires_grad]
    write_json(
        args.output / "train.json",
        {
            "mode": "stock" if args.stock else "tuned",
            "rows": len(rows),
            "epochs": trainer.state.epoch,
            "steps": steps,
            "train_seconds": round(seconds, 2),
            "train_cpu_seconds": round(cpu_seconds, 2),
            "tokens_without_padding": tokens,
            "tokens_per_second": round(tokens / seconds, 1),
            "train_loss": result.training_loss,
            "log_history": trainer.state.log_history,
            "trainable_parameters": sum(parameters),
            "lora_target_modules": sorted(trainer.model.peft_config["default"].target_modules),
            "learning_rate": config.learning_rate,
            "per_device_train_batch_size": config.per_device_train_batch_size,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        },
    )


def evaluate(args: argparse.Namespace) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = read_rows(args.evaluate)
    started = time.perf_counter()
    tokenizer: Any = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    if not args.base:
        model = PeftModel.from_pretrained(model, str(args.output / "adapter"))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    stopped = new_tokens = 0
    with (args.output / "predictions.jsonl").open("w", encoding="utf-8") as stream:
        for start in range(0, len(rows), args.batch_size):
            batch = rows[start : start + args.batch_size]
            inputs = tokenizer([to_prompt(row) for row in batch], return_tensors="pt", padding=True)
            output = model.generate(**inputs.to(model.device), max_new_tokens=args.max_new_tokens, do_sample=False)
            for row, ids in zip(batch, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                ended = tokenizer.eos_token_id in ids
                new_tokens += ids.index(tokenizer.eos_token_id) + 1 if ended else len(ids)
                stopped += ended
                text = tokenizer.decode(ids, skip_special_tokens=True)
                record = {"question": row["question"], "gold": row["sub_questions"], "text": text}
                stream.write(json.dumps(record | {"stopped": ended}, ensure_ascii=False) + "\n")
            stream.flush()
            done = time.perf_counter() - begin
            print(f"{start + len(batch)}/{len(rows)} rows in {done:.1f} s", flush=True)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    write_json(
        args.output / "evaluate.json",
        {
            "base_model_only": args.base,
            "rows": len(rows),
            "stopped": stopped,
            "load_seconds": round(begin - started, 2),
            "generate_seconds": round(seconds, 2),
            "generate_cpu_seconds": round(cpu_seconds, 2),
            "new_tokens": new_tokens,
            "new_tokens_per_second": round(new_tokens / seconds, 1),
            "batch_size": args.batch_size,
            "max_new_tokens": args.max_new_tokens,
            "threads": torch.get_num_threads(),
            "versions": versions(),
        },
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: item for key, item in value.items() if key != "log_history"}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description="Plain TRL baseline for question decomposition.")
    parser.add_argument("--model", type=Path, required=True, help="a transformers model directory")
    parser.add_argument("--train", type=Path, help="JSONL rows with question and sub_questions")
    parser.add_argument("--output", type=Path, required=True, help="directory for the adapter and the figures")
    parser.add_argument("--stock", action="store_true", help="use the defaults of PEFT and TRL")
    parser.add_argument("--epochs", type=float, default=2, help="epochs without --stock (default: 2)")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="without --stock (default: 2e-4)")
    parser.add_argument(
        "--seed", type=int, default=42, help="of the order of the rows and of the adapter (default: 42)"
    )
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after this many steps, for timing")
    parser.add_argument("--verbose-steps", action="store_true", help="print the time at every step")
    parser.add_argument("--evaluate", type=Path, help="JSONL rows to decompose greedily")
    parser.add_argument("--base", action="store_true", help="evaluate the model without OUTPUT/adapter")
    parser.add_argument("--batch-size", type=int, default=16, help="batch size of the evaluation (default: 16)")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="new tokens per evaluated row (default: 128)")
    args = parser.parse_args()
    if not args.train and not args.evaluate:
        parser.error("nothing to do: give --train, --evaluate or both")
    if args.evaluate and not (args.train or args.base or (args.output / "adapter").is_dir()):
        parser.error(f"{args.output / 'adapter'} does not exist: train first, or pass --base")
    args.output.mkdir(parents=True, exist_ok=True)
    if args.train:
        train(args)
    if args.evaluate:
        evaluate(args)


if __name__ == "__main__":
    main()
