"""The header of a model card, as the Hub reads it: YAML between two lines of dashes."""

from __future__ import annotations

import re
from typing import Any

import yaml

from qdsft.metrics.meanings import METRICS, number_in
from qdsft.runs.manifest import Manifest
from qdsft.runs.public import base_on_hub, on_hub, public_name

LICENCE_KEYS = ("license", "license_name", "license_link")
LANGUAGES = ("en", "ko")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def card_header(
    manifest: Manifest,
    title: str,
    results: dict[str, dict[str, Any]],
    *,
    merged: bool = False,
    licence: dict[str, str] | None = None,
) -> str:
    """The header of a run's adapter or model, or of its merged model.

    A base model or data set without an id on the Hub is left out, and so is a licence that is not known. Scores are
    those of `results["tuned"]`; a merged model has not been scored on all rows and lists none.
    """
    base = manifest.base_model.name_or_path
    is_adapter = manifest.artifact == "adapter" and not merged
    tuned = results.get("tuned", {})
    header: dict[str, Any] = {}
    if base_on_hub(manifest):
        relation = "adapter" if is_adapter else "merge" if merged else "finetune"
        header |= {"base_model": base, "base_model_relation": relation}
    data = manifest.recipe.get("data", {}).get("train", "")
    if on_hub(data):
        header["datasets"] = [data]
    spoken = [language for language in LANGUAGES if language in (tuned.get("groups") or {}).get("language", {})]
    if spoken:
        header["language"] = spoken
    header |= licence or {}
    header |= {"library_name": "peft" if is_adapter else "transformers", "pipeline_tag": "text-generation"}
    header["tags"] = (
        ["question-decomposition", "qdsft"] if manifest.recipe["prompt"].get("completion") is None else ["qdsft"]
    )
    scores = {name: value for name in METRICS if (value := number_in(tuned, name)) is not None}
    if scores and not merged:
        header["metrics"] = list(scores)
        header["model-index"] = [_index(title, data, scores)]
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"


def _index(title: str, data: str, scores: dict[str, float]) -> dict[str, Any]:
    return {
        "name": title,
        "results": [
            {
                "task": {"type": "text-generation", "name": "question decomposition"},
                "dataset": {"type": public_name(data), "name": f"held-out rows of {public_name(data)}"},
                "metrics": [
                    {"type": name, "value": round(value, 6), "name": METRICS[name].name}
                    for name, value in scores.items()
                ],
            }
        ],
    }


def read_licence(card: str) -> dict[str, str]:
    """What a base model's card says of its licence; empty where it says nothing that can be read."""
    match = _FRONT_MATTER.match(card)
    try:
        header = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError:
        return {}
    if not isinstance(header, dict) or not isinstance(header.get("license"), str):
        return {}
    return {key: header[key] for key in LICENCE_KEYS if isinstance(header.get(key), str)}
