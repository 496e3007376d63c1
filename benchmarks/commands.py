"""What several benchmarks do: start commands in processes of their own, offline, and make the questions for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """That of this process, without a way to the Hub."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}


def run(command: Sequence[str], **more: str) -> str:
    """What a command prints; ends the benchmark with its last words if it fails. `more` is of its environment."""
    done = subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def write_questions(path: Path, rows: int, *options: str) -> None:
    """Synthetic ones, English and Korean in turn."""
    synth = ("data", "synth", "--language", "en,ko", "--seed", "0", "--rows", str(rows), "--output", str(path))
    run([sys.executable, "-m", "qdsft", *synth, *options])


def make_llama(path: Path, *options: str) -> None:
    """A tiny model of random weights."""
    run([sys.executable, "scripts/make_tiny_model.py", "--architecture", "llama", *options, str(path)])
