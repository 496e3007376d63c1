#!/usr/bin/env python3
"""Measure decoding in new tokens per second: one by one, batched, constrained, and with an adapter loaded or merged.

The questions are the held-out rows of a run, for example of the one that `make quickstart` trains. The adapter of a run
with a whole model has r 16 on every linear layer and changes nothing (B is 0). All ways but bfloat16 must write the
same answers; the table shows the share that is the same. The ways are measured in turns. A ratio is the median, over
the turns, of the speed relative to plain batched decoding.

    make quickstart
    python benchmarks/decoding.py outputs/tiny-full --rows 192 --batch-size 32 --repeats 5 --json decoding.json
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from qdsft.data.decomposition import Decomposition
from qdsft.inference import generate
from qdsft.inference.generate import Answer, read_answer
from qdsft.inference.generation_config import greedy_config, without_base_settings
from qdsft.inference.loaded_run import LoadedRun, load_run
from qdsft.runs.eval_rows import read_eval_rows
from qdsft.runs.provenance import versions

BASE = "batched"
LOOKED_UP = 10
"""Tokens that prompt lookup proposes at once."""
Way = Callable[[], list[Answer]]


class _AllEnded(generate._Ended):
    """End a batch when all of its rows have ended, as generate() does by default."""

    def __init__(self, stop_ids: Sequence[int], device: Any, *, share: float) -> None:
        super().__init__(stop_ids, device, share=1.0)


def decode(run: LoadedRun, prompts: Sequence[Sequence[int]], batch_size: int, **options: Any) -> list[Answer]:
    answers = dict(run.stream_ids(prompts, batch_size=batch_size, **options))
    return [answers[i] for i in range(len(prompts))]


def with_whole_batches(way: Way) -> Way:
    def decode_whole() -> list[Answer]:
        half = generate._Ended
        generate._Ended = _AllEnded  # type: ignore[misc]
        try:
            return way()
        finally:
            generate._Ended = half  # type: ignore[misc]

    return decode_whole


def look_up(run: LoadedRun, prompts: Sequence[Sequence[int]]) -> list[Answer]:
    """Decode one by one, and propose tokens that follow the last ones in the prompt."""
    stop_ids = run.manifest.stop_token_ids
    config = greedy_config(run.tokenizer, stop_ids, run.max_new_tokens)
    config.prompt_lookup_num_tokens = LOOKED_UP
    answers = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=run.model.device)
        with torch.no_grad(), without_base_settings(run.model):
            found = run.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        answers.append(read_answer(run.tokenizer, found[0, len(prompt) :].tolist(), stop_ids))
    return answers


def make_ways(run: LoadedRun, prompts: Sequence[Sequence[int]], batch_size: int) -> dict[str, Way]:
    adapter = run
    if not isinstance(run.model, PeftModel):
        lora = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")
        adapter = replace(run, model=get_peft_model(copy.deepcopy(run.model), lora).eval())
    merged = replace(run, model=copy.deepcopy(adapter.model).merge_and_unload().eval())
    half = replace(run, model=copy.deepcopy(merged.model).to(torch.bfloat16))
    run = merged if adapter is run else run
    return {
        "one by one, prompt lookup": lambda: look_up(run, prompts),
        "batched, bfloat16": lambda: decode(half, prompts, batch_size),
        "one by one": lambda: decode(run, prompts, 1),
        "batched, finished rows stay in the batch": with_whole_batches(lambda: decode(run, prompts, batch_size)),
        BASE: lambda: decode(run, prompts, batch_size),
        "batched, constrained": lambda: decode(run, prompts, batch_size, constrained=True),
        "one by one, constrained": lambda: decode(run, prompts, 1, constrained=True),
        "batched, adapter loaded": lambda: decode(adapter, prompts, batch_size),
        "batched, adapter merged": lambda: decode(merged, prompts, batch_size),
    }


def measure(ways: dict[str, Way], repeats: int) -> dict[str, dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[Answer]] = {}
    for name, way in ways.items():
        answers[name] = way()  # warm-up
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "tokens_per_second": statistics.median(sum(a.tokens for a in answers[name]) / s for s in seconds[name]),
            "rows_per_second": statistics.median(len(answers[name]) / s for s in seconds[name]),
            "ratio": statistics.median(base / s for base, s in zip(seconds[BASE], seconds[name], strict=True)),
            "valid": statistics.fmean(Decomposition.parse(a.text).is_valid for a in answers[name]),
            "same": statistics.fmean(a == b for a, b in zip(answers[BASE], answers[name], strict=True)),
        }
        for name in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args()
    run = load_run(options.run_dir)
    examples = read_eval_rows(options.run_dir)[: options.rows]
    prompts = run.encode([example.messages for example in examples])
    results = measure(make_ways(run, prompts, options.batch_size), options.repeats)
    print(f"{len(prompts)} questions, batches of {options.batch_size}, {run.machine.name}")
    print("\n| decoding | new tokens/s | questions/s | ratio | valid | same answers |\n|---|---|---|---|---|---|")
    for name, row in results.items():
        print(
            f"| {name} | {row['tokens_per_second']:,.0f} | {row['rows_per_second']:.1f} | {row['ratio']:.2f} "
            f"| {row['valid']:.3f} | {row['same']:.3f} |"
        )
    if options.json:
        setting = {"rows": len(prompts), "batch_size": options.batch_size, "repeats": options.repeats}
        facts = {**setting, "device": run.machine.name, "versions": versions(), "results": results}
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
