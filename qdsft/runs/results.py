"""Read the results of a run back: metrics, predictions, and how it trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.metrics.meanings import MEANINGS, number_in
from qdsft.runs.layout import METRICS_FILE, PREDICTIONS_FILE
from qdsft.runs.manifest import Manifest


def read_metrics(run_dir: Path) -> dict[str, dict[str, Any]]:
    """`{"tuned": {...}, "constrained": {...}, "baseline": {...}}` from metrics.json; empty where there is none."""
    path = run_dir / METRICS_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: content[name] for name in ("tuned", "constrained", "baseline") if name in content}


def tuned_numbers(run_dir: Path) -> dict[str, float]:
    """The numbers among the trained model's metrics in metrics.json; empty where it cannot be read."""
    try:
        tuned = read_metrics(run_dir).get("tuned", {})
        return {name: value for name in tuned if (value := number_in(tuned, name)) is not None}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def brief_metrics(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Of `read_metrics` what a card shows."""
    found = {}
    for model, values in read_metrics(run_dir).items():
        languages = {name: {"samples": group.get("samples")} for name, group in _languages(values).items()}
        shown = {key: value for key, value in values.items() if key in MEANINGS}
        found[model] = {**shown, "groups": {"language": languages}}
    return found


def read_example(run_dir: Path) -> dict[str, Any] | None:
    """`{"question", "sub_questions"}`: a held-out question that the run answered as the gold has it; None without."""
    path = run_dir / PREDICTIONS_FILE
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        right = next(row for row in rows if row["scores"]["exact_match"] == 1.0)
        return {"question": right["question"], "sub_questions": list(right["sub_questions"])}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _languages(values: dict[str, Any]) -> dict[str, Any]:
    return dict((values.get("groups") or {}).get("language", {}))


def method(manifest: Manifest) -> str:
    """How the run trained, in words."""
    lora = manifest.recipe.get("lora")
    if lora is None:
        return "full fine-tuning"
    kind = "QLoRA" if manifest.recipe.get("quantization") else "LoRA"
    return f"{kind}, rank {lora.get('r', 8)}"
