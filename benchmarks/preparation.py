#!/usr/bin/env python3
"""Preparing data: rows a second and peak memory, ours against TRL's own path, on the same synthetic rows.

Both start from a JSON Lines file and end with packed rows on disk. Ours reads, checks, splits, renders, tokenizes,
masks and packs. TRL's is load_dataset, a map that makes conversations of the rows, and what SFTTrainer does with
these: two tokenizations a row, labels, packing. The ratio to that last part alone is given too: then TRL has read
nothing and ours has. Each measurement is a process of its own, with an empty cache; the two take turns.

    python benchmarks/preparation.py --rows 5000 50000 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "recipes/koalpaca/qlora_8gb.yaml"
VOCABULARY = 8000
sys.path.insert(0, str(ROOT / "scripts"))


def make_data(rows: int, folder: Path) -> Path:
    """Half English, half Korean questions."""
    from qdsft.data.synth import generate

    path = folder / f"{rows}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for language in ("en", "ko"):
            for row in generate(language, rows // 2, 0):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def make_model(folder: Path) -> Path:
    """A tiny model whose tokenizer needs about as many tokens for a question as a real one."""
    import make_tiny_model
    from qdsft.data.prompt import SYSTEM
    from qdsft.recipe import load_recipe

    corpus = folder / "corpus.jsonl"
    wording = json.dumps({"question": load_recipe(ROOT / RECIPE).prompt.system, "sub_questions": [SYSTEM]}) + "\n"
    with make_data(20_000, folder).open(encoding="utf-8") as rows:
        corpus.write_text("".join(islice(rows, 0, None, 4)) + wording * 10, encoding="utf-8")
    make_tiny_model.build("gpt_neox", folder / "model", vocab_size=VOCABULARY, corpus=corpus)
    return folder / "model"


def few_rows(data: Path) -> Path:
    """A file of the first eight."""
    few = data.with_name("few.jsonl")
    with data.open(encoding="utf-8") as lines:
        few.write_text("".join(islice(lines, 8)), encoding="utf-8")
    return few


def ours(data: Path, model: Path, recipe: str) -> dict[str, Any]:
    from qdsft.model.loading import load_config, load_tokenizer, stop_token_ids
    from qdsft.recipe import load_recipe
    from qdsft.tokenization.prepared import prepare

    overrides = [f"model.name_or_path={model}", f"data.train={data}", "data.eval=null", "data.eval_fraction=0"]
    settings = load_recipe(recipe, overrides)
    tokenizer = load_tokenizer(settings)
    stops = stop_token_ids(settings, tokenizer, load_config(settings))
    # As TRL's trainer below has seen a few rows before its time counts.
    prepare(load_recipe(recipe, [*overrides, f"data.train={few_rows(data)}"]), tokenizer, stops)
    start = time.perf_counter()
    prepared = prepare(settings, tokenizer, stops)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "tokens": prepared.tokens["tokens"],
        "efficiency": prepared.tokens["packing"]["efficiency"],
    }


def trls(data: Path, model: Path, recipe: str) -> dict[str, Any]:
    import datasets
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from qdsft.data.decomposition import Decomposition
    from qdsft.data.prompt import SYSTEM
    from qdsft.model.loading import load_tokenizer
    from qdsft.recipe import load_recipe

    datasets.disable_progress_bars()
    settings = load_recipe(
        recipe, [f"model.name_or_path={model}", f"data.train={data}", "data.eval=null", "data.eval_fraction=0"]
    )

    system = settings.prompt.system or SYSTEM

    def converse(row: dict[str, Any]) -> dict[str, Any]:
        steps = Decomposition(tuple(row["sub_questions"])).render()
        return {
            "prompt": [{"role": "system", "content": system}, {"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": steps}],
        }

    def load(path: Path) -> Any:
        rows = datasets.load_dataset("json", data_files=str(path), split="train")
        return rows.map(converse, remove_columns=rows.column_names)

    tokenizer = load_tokenizer(settings)
    config = SFTConfig(
        output_dir=str(data.parent / "out"),
        use_cpu=True,
        bf16=False,
        packing=True,
        max_length=settings.max_length,
        report_to="none",
    )
    # The trainer itself over a few rows, so that what is timed is the preparation and nothing else.
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=config,
        train_dataset=load(few_rows(data)),
        processing_class=tokenizer,
    )
    start = time.perf_counter()
    rows = load(data)
    loaded = time.perf_counter()
    packed = trainer._prepare_dataset(rows, tokenizer, config, True, None, "train")
    seconds = time.perf_counter() - start
    tokens = sum(sum(lengths) for lengths in packed["seq_lengths"])
    return {
        "seconds": seconds,
        "without_loading": seconds - (loaded - start),
        "tokens": tokens,
        "efficiency": tokens / (len(packed) * config.max_length),
    }


def measure(which: str, data: Path, model: Path, recipe: str) -> dict[str, Any]:
    """One path in a process of its own."""
    with tempfile.TemporaryDirectory(dir=data.parent) as cache:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "QDSFT_CACHE": f"{cache}/qdsft",
            "HF_DATASETS_CACHE": f"{cache}/datasets",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, __file__, "--one", which, str(data), str(model), "--recipe", recipe]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--one", nargs=3, metavar=("WHICH", "DATA", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        which, data, model = options.one
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = (ours if which == "ours" else trls)(Path(data), Path(model), options.recipe)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**result, "peak_mib": peak / 1024, "before_mib": before / 1024}))
        return
    print(
        "| rows | tokens a row | ours, rows/s | TRL, rows/s | ratio | ratio, TRL without loading | peak MiB: ours, TRL "
        "| packing: ours, TRL |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        model = make_model(Path(place))
        for rows in options.rows:
            data = make_data(rows, Path(place))
            runs = [
                (measure("ours", data, model, options.recipe), measure("trl", data, model, options.recipe))
                for _ in range(options.repeats)
            ]
            first, second = runs[0]
            assert first["tokens"] == second["tokens"], "the same tokens are kept"
            speeds = [statistics.median(rows / run[side]["seconds"] for run in runs) for side in (0, 1)]
            ratio = statistics.median(theirs["seconds"] / our["seconds"] for our, theirs in runs)
            bare = statistics.median(theirs["without_loading"] / our["seconds"] for our, theirs in runs)
            peaks = [statistics.median(run[side]["peak_mib"] for run in runs) for side in (0, 1)]
            print(
                f"| {rows:,} | {first['tokens'] / rows:.0f} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {ratio:.1f} "
                f"| {bare:.1f} | {peaks[0]:,.0f}, {peaks[1]:,.0f} "
                f"| {first['efficiency']:.3f}, {second['efficiency']:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
