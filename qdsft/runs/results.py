"""Read the results of a run: metrics, an example, and the training method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.metrics.meanings import MEANINGS, number_in
from qdsft.runs.layout import METRICS_FILE, PREDICTIONS_FILE
from qdsft.runs.manifest import Manifest


def read_metrics(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Return `{"tuned": {...}, "constrained": {...}, "baseline": {...}}` of metrics.json; empty if it is missing."""
    path = run_dir / METRICS_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: content[name] for name in ("tuned", "constrained", "baseline") if name in content}


def tuned_numbers(run_dir: Path) -> dict[str, float]:
    """Return the numeric metrics of the trained model; empty if metrics.json cannot be read."""
    try:
        tuned = read_metrics(run_dir).get("tuned", {})
        return {name: value for name in tuned if (value := number_in(tuned, name)) is not None}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def brief_metrics(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics that a card shows."""
    found = {}
    for model, values in read_metrics(run_dir).items():
        languages = {name: {"samples": group.get("samples")} for name, group in _languages(values).items()}
        shown = {key: value for key, value in values.items() if key in MEANINGS}
        found[model] = {**shown, "groups": {"language": languages}}
    return found


def read_example(run_dir: Path) -> dict[str, Any] | None:
    """Return `{"question", "sub_questions"}` of a held-out question that was answered exactly, or None."""
    path = run_dir / PREDICTIONS_FILE
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        right = next(row for row in rows if row["scores"]["exact_match"] == 1.0)
        return {"question": right["question"], "sub_questions": list(right["sub_questions"])}
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def _languages(values: dict[str, Any]) -> dict[str, Any]:
    return dict((values.get("groups") or {}).get("language", {}))


def method(manifest: Manifest) -> str:
    """Return the training method in words."""
    lora = manifest.recipe.get("lora")
    if lora is None:
        return "full fine-tuning"
    kind = "QLoRA" if manifest.recipe.get("quantization") else "LoRA"
    return f"{kind}, rank {lora.get('r', 8)}"
