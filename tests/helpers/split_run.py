"""Make a finished run on given rows, with random weights, whose run.json and held-out rows are those of its split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.paths import RECIPES
from helpers.tiny_run import make_run

from qdsft.data.split import SplitTally, stream_split
from qdsft.recipe import load_recipe
from qdsft.runs.eval_rows import write_eval_rows
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import read_manifest, write_manifest


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_split_run(
    folder: Path, base: Path, train: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]
) -> Path:
    """Return folder/run, which was trained on folder/train.jsonl and evaluated on folder/eval.jsonl."""
    files = [f"data.train={write_rows(folder / 'train.jsonl', train)}"]
    files.append(f"data.eval={write_rows(folder / 'eval.jsonl', held_out)}")
    run_dir = make_run(folder / "run", base, "tiny/full", *files)
    tally, kept = SplitTally(), []
    for side, example in stream_split(load_recipe(RECIPES / "tiny/full.yaml", files)):
        tally.add(side, example)
        kept += [example] if side == "eval" else []
    write_eval_rows(run_dir, kept)
    manifest = read_manifest(run_dir)
    manifest.data = DataFacts.model_validate(tally.summary())
    write_manifest(run_dir, manifest)
    return run_dir
