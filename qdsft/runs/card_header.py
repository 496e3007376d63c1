"""The YAML header of a model card, which the Hub reads."""

from __future__ import annotations

import re
from typing import Any

import yaml

from qdsft.metrics.catalog import BY_KEY, of_kind
from qdsft.runs.manifest import Manifest
from qdsft.runs.public import base_on_hub, on_hub, public_name, train_names
from qdsft.runs.results import Results

LICENCE_KEYS = ("license", "license_name", "license_link")
LANGUAGES = ("en", "ko")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def card_header(
    manifest: Manifest,
    title: str,
    results: Results,
    *,
    merged: bool = False,
    licence: dict[str, str] | None = None,
) -> str:
    """Return the header of a run's adapter or model, or of its merged model.

    A base model or data set without an id on the Hub is left out, and so is an unknown licence. The scores are those
    of `results["tuned"]`; a merged model was not scored on all rows and lists none.
    """
    from huggingface_hub import EvalResult, ModelCardData

    is_adapter = manifest.artifact == "adapter" and not merged
    tuned = results.get("tuned")
    base: dict[str, Any] = {}
    if base_on_hub(manifest):
        relation = "adapter" if is_adapter else "merge" if merged else "finetune"
        base = {"base_model": manifest.base_model.name_or_path, "base_model_relation": relation}
    names = train_names(manifest.recipe)
    data = ", ".join(map(public_name, names))
    is_decomposition = manifest.recipe["prompt"].get("completion") is None
    adapted = ["lora"] if manifest.artifact == "adapter" or manifest.recipe.get("lora") is not None else []
    scores: dict[str, float] = {}
    if tuned and not merged:
        values = {metric.key: tuned.get(metric.key) for metric in of_kind("score", "loss")}
        scores = {name: value for name, value in values.items() if value is not None}
    header = ModelCardData(
        **base,
        **(licence or {}),
        datasets=list(filter(on_hub, names)) or None,
        language=[name for name in LANGUAGES if tuned and name in tuned.group("language")] or None,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-generation",
        tags=[*(["question-decomposition"] if is_decomposition else []), "qdsft", "trl", "sft", *adapted],
        metrics=list(scores) or None,
        model_name=title if scores else None,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                task_name="question decomposition",
                dataset_type=data,
                dataset_name=f"held-out rows of {data}",
                metric_type=name,
                metric_name=BY_KEY[name].name,
                metric_value=round(value, 6),
            )
            for name, value in scores.items()
        ]
        or None,
    )
    return f"---\n{header.to_yaml()}\n---\n"


LONGEST_HEADER = 100_000
"""Characters of a model card that are searched for its licence."""
_TEXT = "tag:yaml.org,2002:str"


def read_licence(card: str) -> dict[str, str]:
    """Return the licence keys of a base model's card; empty if there are none that can be read."""
    match = _FRONT_MATTER.match(card[:LONGEST_HEADER])
    try:
        # Composed, not loaded: `<<` of aliases within aliases would take exponential time and memory.
        header = yaml.compose(match.group(1), Loader=yaml.SafeLoader) if match else None
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    if not isinstance(header, yaml.MappingNode):
        return {}
    scalars = [(key, value) for key, value in header.value if isinstance(value, yaml.ScalarNode)]
    found = {key.value: value.value for key, value in scalars if value.tag == _TEXT}
    return {key: found[key] for key in LICENCE_KEYS if key in found} if "license" in found else {}
