"""File names of a run directory, and of what a command keeps beside its output until that is complete."""

from __future__ import annotations

import os
import re
from pathlib import Path

MANIFEST = "run.json"
LOG = "log.jsonl"
LOSS_PLOT = "loss.png"
EVAL_ROWS = "eval.jsonl"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.jsonl"
REPORT = "report.html"
CARD = "README.md"
MERGE_FILE = "merge.json"
"""The certificate of a merged model, beside its weights."""
INITIAL_ADAPTER = "initial_adapter"
"""The adapter before its first step, if the base model was changed by it; a resume needs it."""
CHECKPOINT = "checkpoint-"
"""What the name of a checkpoint folder starts with; the optimizer step follows."""


_OWN_NAMES = re.compile(
    "|".join(
        [
            *map(re.escape, (MANIFEST, LOG, LOSS_PLOT, EVAL_ROWS, METRICS_FILE, REPORT, CARD)),
            r"predictions(_\w+)?\.jsonl",
            r"\.predictions_\w+\.\d+\.partial\.jsonl",
            rf"\.?{CHECKPOINT}\d+(\.old)?",
            r"adapter|model|merged|initial_adapter|trial-save|\.saving|\.writable",
            r"runs",  # TensorBoard's logs
            r"\..+\.tmp",  # a file or folder that was being written
        ]
    )
)


_NAMES_INSIDE = re.compile(
    r"[^ ]*\.(safetensors|json|jinja|pt|pth|bin|model|distcp|sha256|metadata|tmp)|README\.md|latest|(vocab|merges)\.txt"
    r"|events\.out\.tfevents\..*|zero_to_\w+\.py|(configuration|modeling|tokenization|processing)_\w+\.py"
)
"""Files of checkpoints, models and TensorBoard's logs."""


def is_own_name(name: str) -> bool:
    """Return whether qdsft writes a file or folder of this name into a run directory."""
    return _OWN_NAMES.fullmatch(name) is not None


def foreign_files(run_dir: Path) -> list[str]:
    """Return the paths in a run directory, relative to it, that have names which qdsft does not write there.

    Of a folder with another name only the folder is returned. Links are not followed.
    """
    found = []
    for folder, folders, files in os.walk(run_dir):
        here = Path(folder).relative_to(run_dir)
        if here == Path():
            own = [name for name in folders if is_own_name(name)]
            found += [name for name in (*folders, *files) if not is_own_name(name)]
            folders[:] = own
        else:
            found += [str(here / name) for name in files if not _NAMES_INSIDE.fullmatch(name)]
    return sorted(found)


def predictions_file(model: str) -> str:
    """Return the name of the scored answers of a model: tuned, constrained or baseline."""
    return PREDICTIONS_FILE if model == "tuned" else f"predictions_{model}.jsonl"


def answer_log_path(output: Path) -> Path:
    """Return where `qdsft decompose` and `qdsft data distill` keep the answers of an unfinished `output`."""
    return output.with_name(f".{output.name}.answers")


def decoded_log_path(run_dir: Path, model: str, rank: int) -> Path:
    """Return where a process of `qdsft evaluate` keeps its decoded rows."""
    return run_dir / f".predictions_{model}.{rank}.partial.jsonl"


def decoded_log_paths(run_dir: Path, model: str) -> list[Path]:
    """Return the logs of all processes of this launch and of earlier launches."""
    return sorted(run_dir.glob(f".predictions_{model}.*.partial.jsonl"))
