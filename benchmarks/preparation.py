#!/usr/bin/env python3
"""Measure how fast data are prepared, and in how much memory, against TRL's own path on the same synthetic rows.

Both start from a JSON Lines file and end with packed rows on disk. Ours reads, checks, splits, renders, tokenizes,
masks and packs. TRL's is load_dataset, a map that turns rows into conversations, and the preparation of SFTTrainer:
two tokenizations a row, labels, packing. Each measurement is a process with an empty cache, and the paths take turns.
Threads are those of the tokenizer. TRL tokenizes one row at a time and so has no use for them; with two or more
threads TRL also runs with as many processes (dataset_num_proc).

    python benchmarks/preparation.py --rows 5000 50000 --threads 1 2 --repeats 3
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
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "recipes/koalpaca/qlora_8gb.yaml"
VOCABULARY = 8000
sys.path.insert(0, str(ROOT / "scripts"))


@dataclass(frozen=True)
class Measurement:
    """One preparation in a process that did nothing else."""

    seconds: float
    without_loading: float
    """Seconds without reading the file and building conversations; equal to `seconds` for ours."""
    tokens: int
    efficiency: float
    """Share of the packed rows that holds tokens."""
    peak_mib: float = 0.0


def make_data(rows: int, folder: Path) -> Path:
    """Write a file of questions, half of them English and half Korean."""
    from qdsft.data.synth import generate

    path = folder / f"{rows}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for language in ("en", "ko"):
            for row in generate(language, rows // 2, 0):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def make_model(folder: Path) -> Path:
    """Build a tiny model whose tokenizer needs about as many tokens for a question as a real one."""
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
    """Write a file of the first eight rows."""
    few = data.with_name("few.jsonl")
    with data.open(encoding="utf-8") as lines:
        few.write_text("".join(islice(lines, 8)), encoding="utf-8")
    return few


def overrides(data: Path, model: Path) -> list[str]:
    return [f"model.name_or_path={model}", f"data.train={data}", "data.eval=null", "data.eval_fraction=0"]


def ours(data: Path, model: Path, recipe: str) -> Measurement:
    from qdsft.model.loading import load_config, load_tokenizer, stop_token_ids
    from qdsft.recipe import load_recipe
    from qdsft.tokenization.prepared import prepare

    settings = load_recipe(recipe, overrides(data, model))
    tokenizer = load_tokenizer(settings)
    stops = stop_token_ids(settings, tokenizer, load_config(settings))
    # Warm up on a few rows, as TRL's trainer does below.
    prepare(load_recipe(recipe, overrides(few_rows(data), model)), tokenizer, stops)
    start = time.perf_counter()
    tokens = prepare(settings, tokenizer, stops).facts.tokens
    seconds = time.perf_counter() - start
    assert tokens.packing is not None
    return Measurement(seconds, seconds, tokens.tokens, tokens.packing.efficiency)


def trls(data: Path, model: Path, recipe: str, processes: int | None) -> Measurement:
    import datasets
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from qdsft.data.decomposition import Decomposition
    from qdsft.data.prompt import SYSTEM
    from qdsft.model.loading import load_tokenizer
    from qdsft.recipe import load_recipe

    datasets.disable_progress_bars()
    settings = load_recipe(recipe, overrides(data, model))
    system = settings.prompt.system or SYSTEM

    def converse(row: dict[str, Any]) -> dict[str, Any]:
        steps = Decomposition(tuple(row["sub_questions"])).render()
        return {
            "prompt": [{"role": "system", "content": system}, {"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": steps}],
        }

    def load(path: Path) -> Any:
        rows = datasets.load_dataset("json", data_files=str(path), split="train")
        return rows.map(converse, remove_columns=rows.column_names, num_proc=processes if len(rows) > 8 else None)

    tokenizer = load_tokenizer(settings)
    config = SFTConfig(
        output_dir=str(data.parent / "out"),
        use_cpu=True,
        bf16=False,
        packing=True,
        max_length=settings.max_length,
        report_to="none",
    )
    # Build the trainer with a few rows, so that only the preparation is timed.
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=config,
        train_dataset=load(few_rows(data)),
        processing_class=tokenizer,
    )
    config.dataset_num_proc = processes
    start = time.perf_counter()
    rows = load(data)
    loaded = time.perf_counter()
    packed = trainer._prepare_dataset(rows, tokenizer, config, True, None, "train")
    seconds = time.perf_counter() - start
    tokens = sum(sum(lengths) for lengths in packed["seq_lengths"])
    return Measurement(seconds, seconds - (loaded - start), tokens, tokens / (len(packed) * config.max_length))


def measure(which: str, data: Path, model: Path, recipe: str, *, threads: int, processes: int = 1) -> Measurement:
    """Measure one path in a process."""
    with tempfile.TemporaryDirectory(dir=data.parent) as cache:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "QDSFT_CACHE": f"{cache}/qdsft",
            "HF_DATASETS_CACHE": f"{cache}/datasets",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "RAYON_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "true" if threads > 1 and processes == 1 else "false",
        }
        command = [sys.executable, __file__, "--one", which, str(data), str(model)]
        command += ["--recipe", recipe, "--processes", str(processes)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def compare(data: Path, model: Path, recipe: str, rows: int, threads: int, repeats: int) -> str:
    """Return a line of the table: medians of runs that take turns."""
    ours_, trl, forked = [], [], []
    for _ in range(repeats):
        ours_.append(measure("ours", data, model, recipe, threads=threads))
        trl.append(measure("trl", data, model, recipe, threads=threads))
        if threads > 1:
            forked.append(measure("trl", data, model, recipe, threads=threads, processes=threads))
    assert ours_[0].tokens == trl[0].tokens, "the same tokens are kept"

    def ratio(others: list[Measurement], *, loading: bool = True) -> str:
        pairs = zip(ours_, others, strict=True)
        return f"{statistics.median((b.seconds if loading else b.without_loading) / a.seconds for a, b in pairs):.1f}"

    speeds = [f"{statistics.median(rows / run.seconds for run in runs):,.0f}" for runs in (ours_, trl)]
    peaks = [f"{statistics.median(run.peak_mib for run in runs):,.0f}" for runs in (ours_, trl)]
    ratios = [ratio(trl), ratio(trl, loading=False), ratio(forked) if forked else ""]
    efficiencies = [f"{runs[0].efficiency:.3f}" for runs in (ours_, trl)]
    cells = [f"{rows:,}", str(threads), f"{ours_[0].tokens / rows:.0f}", *speeds, *ratios]
    return f"| {' | '.join([*cells, ', '.join(peaks), ', '.join(efficiencies)])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of the tokenizer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--one", nargs=3, metavar=("WHICH", "DATA", "MODEL"), help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        which, data, model = options.one[0], Path(options.one[1]), Path(options.one[2])
        processes = options.processes if options.processes > 1 else None
        run = ours(data, model, options.recipe) if which == "ours" else trls(data, model, options.recipe, processes)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**asdict(run), "peak_mib": peak}))
        return
    print(
        "| rows | threads | tokens a row | ours, rows/s | TRL, rows/s | ratio | ratio, TRL without loading "
        "| ratio, TRL with as many processes | peak MiB: ours, TRL | packing: ours, TRL |"
    )
    print("|" + "---|" * 10)
    with tempfile.TemporaryDirectory() as place:
        model = make_model(Path(place))
        for rows in options.rows:
            data = make_data(rows, Path(place))
            for threads in options.threads:
                print(compare(data, model, options.recipe, rows, threads, options.repeats), flush=True)


if __name__ == "__main__":
    main()
