"""Shared by the benchmarks: run commands offline in new processes, and write synthetic questions and a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """Return the environment of this process with the Hub switched off, and with `more` variables."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}


def run(command: Sequence[str], **more: str) -> str:
    """Run a command and return its output. Exits with the end of its errors if it fails; `more` are variables."""
    done = subprocess.run(command, cwd=ROOT, env=environment(**more), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def write_questions(path: Path, rows: int, *options: str) -> None:
    """Write synthetic questions, alternating between English and Korean."""
    synth = ("data", "synth", "--language", "en,ko", "--seed", "0", "--rows", str(rows), "--output", str(path))
    run([sys.executable, "-m", "qdsft", *synth, *options])


def make_llama(path: Path, *options: str) -> None:
    """Write a tiny model with random weights."""
    run([sys.executable, "scripts/make_tiny_model.py", "--architecture", "llama", *options, str(path)])
