#!/usr/bin/env python3
"""Compare the greedy answers of a run with those of its merged model, of `qdsft serve`, and of its GGUF files.

    python benchmarks/same_answers.py outputs/tiny-full --converter llama.cpp/convert_hf_to_gguf.py

The questions are held-out rows. An adapter is merged first, into a temporary folder. The rows of the GGUF files require
--converter and the extra gguf.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from qdsft.data.examples import Example
from qdsft.deploy.gguf import llama_cpp
from qdsft.deploy.gguf.export import export_gguf
from qdsft.deploy.merge import merge
from qdsft.deploy.served_folder import served_name
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_prompts, load_run
from qdsft.metrics.scores import score
from qdsft.metrics.summary import means
from qdsft.runs.eval_rows import read_eval_rows
from serving import ask, served

METRICS = ("valid", "exact_match", "sari")
GGUF_TYPES = ("f32", "bf16", "q8_0")
Form = tuple[str, Callable[[], list[str]]]
"""The name of a form of the model, and the function that returns its answers."""


def decode(run: LoadedRun, examples: list[Example]) -> list[str]:
    return [answer.text for answer in run.answer([example.messages for example in examples], batch_size=8)]


def ask_server(run: RunPrompts, examples: list[Example]) -> list[str]:
    body = {"model": served_name(run.run_dir), "temperature": 0, "max_tokens": run.max_new_tokens}
    with served(run.run_dir) as address:
        replies = [ask(address, {**body, "messages": list(example.messages)}, "plain") for example in examples]
    return [reply.text or "" for reply in replies]


def ask_llama_cpp(run: RunPrompts, examples: list[Example], path: Path, kind: str, converter: Path) -> list[str]:
    export_gguf(run.run_dir, path, kind=kind, converter=converter)
    replies = llama_cpp.ask(path, [list(one.messages) for one in examples], max_new_tokens=run.max_new_tokens)
    path.unlink()
    return [(reply.answer or "").strip() for reply in replies]


def forms(run_dir: Path, examples: list[Example], dtype: str, converter: Path | None, folder: Path) -> Iterator[Form]:
    """Yield the forms of a run, the run itself first."""
    run = load_run(run_dir)
    yield f"run directory ({run.manifest.artifact})", lambda: decode(run, examples)
    whole = run_dir
    if run.manifest.artifact == "adapter":
        whole = folder / "merged"
        merge(run_dir, whole, dtype=dtype, check=False, base="original" if run.recipe.quantization else "auto")
        yield f"merged, {dtype}", lambda: decode(load_run(whole), examples)
    prompts = load_prompts(whole)
    yield "served by transformers", lambda: ask_server(prompts, examples)
    if converter and llama_cpp.is_installed():
        script = converter
        for kind in GGUF_TYPES:
            path = folder / f"{kind}.gguf"
            yield f"GGUF {kind}, llama.cpp", lambda: ask_llama_cpp(prompts, examples, path, kind, script)  # noqa: B023


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the merged weights (bfloat16)")
    parser.add_argument("--converter", type=Path, metavar="FILE", help="llama.cpp's convert_hf_to_gguf.py")
    options = parser.parse_args()
    examples = read_eval_rows(options.run_dir)[: options.rows]
    task = load_prompts(options.run_dir).task
    print(f"| form | same answers of {len(examples)} | {' | '.join(METRICS)} |\n|---|---|{'---|' * len(METRICS)}")
    first: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, answers_of in forms(options.run_dir, examples, options.dtype, options.converter, Path(folder)):
            answers = answers_of()
            first = first or answers
            same = sum(one == other for one, other in zip(answers, first, strict=True))
            pairs = zip(examples, answers, strict=True)
            found = means([score(task.predict(example, text, True)) for example, text in pairs])
            print(f"| {name} | {same} | {' | '.join(f'{found[key]:.3f}' for key in METRICS)} |", flush=True)


if __name__ == "__main__":
    main()
