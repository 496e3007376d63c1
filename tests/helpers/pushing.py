"""A loopback Hub and a run to push to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.loopback_hub import TOKEN, LoopbackHub, environment, serving
from helpers.tiny_run import make_run

from qdsft.runs.manifest import read_manifest, write_manifest

REPO = "kim/decomposer"


METRICS = {
    "tuned": {
        "exact_match": 0.5,
        "sari": 0.75,
        "samples": 4,
        "groups": {"language": {"ko": {"samples": 2}, "en": {"samples": 2}, "other": {"samples": 0}}},
        "intervals": {"sari": [0.7, 0.8]},
    },
    "baseline": {"exact_match": 0.0, "sari": 0.2, "samples": 4},
}


@contextmanager
def reachable_hub(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[LoopbackHub]:
    """Serve a Hub on loopback, and make huggingface_hub use it."""
    with serving() as server:
        for name, value in environment(server, home).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr("qdsft.model.hub.WAITS", (0.01, 0.02))
        yield server


def make_push_run(run_dir: Path, base: Path) -> Path:
    """Return an adapter run with files that must not be uploaded."""
    make_run(run_dir, base, "tiny/full", "lora.r=4", lora_scale=0.1)
    (run_dir / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    (run_dir / "eval.jsonl").write_text('{"secret rows": 1}\n', encoding="utf-8")
    wrong = {"question": "Wrong?", "gold": ["a"], "sub_questions": ["?"], "scores": {"exact_match": 0.0}}
    steps = ["A?", "B of #1?"]
    right = {"question": "누가 더?", "gold": steps, "sub_questions": steps, "scores": {"exact_match": 1.0}}
    lines = [json.dumps(row, ensure_ascii=False) for row in (wrong, right)]
    (run_dir / "predictions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for folder in (run_dir, run_dir / "adapter"):
        (folder / "training_args.bin").write_bytes(b"pickled " + TOKEN.encode())
        (folder / "notes.txt").write_text(f"{Path.home()} {run_dir}", encoding="utf-8")
    manifest = read_manifest(run_dir)
    manifest.device.update({"kind": "cpu", "name": "CPU", "platform": "Linux-of-mine"})
    manifest.origins["model.name_or_path"] = f"{run_dir}/recipe.yaml:3"
    manifest.results.update({"preflight": [{"name": "disk", "passed": True, "found": f"{run_dir} has room"}]})
    write_manifest(run_dir, manifest)
    return run_dir
