"""Read the results of a run: its metrics, a right answer, and how it was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.metrics.catalog import BY_KEY
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics, parse_model_metrics
from qdsft.metrics.prediction_rows import read_prediction_rows
from qdsft.runs.layout import METRICS_FILE, PREDICTIONS_FILE
from qdsft.runs.manifest import Manifest

MODELS = ("tuned", "constrained", "baseline")
"""The models that are evaluated: trained, trained with constrained decoding, and the base model."""

Results = dict[str, ModelMetrics]
"""Model -> its metrics."""


@dataclass(frozen=True)
class MetricsFile:
    """What is read from metrics.json."""

    results: Results = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    """Model -> hash of what its answers depend on; empty in files of earlier versions and of `--predictions`."""
    retrieval: dict[str, Any] | None = None
    """The corpus of the retrieval metrics, and how it was searched."""


def read_metrics_file(folder: Path) -> MetricsFile:
    """Return metrics.json of a folder; empty if there is none. Raises UserError if the file is damaged or foreign."""
    path = folder / METRICS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return MetricsFile()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make it readable, or delete it and evaluate again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON; delete it and evaluate again") from error
    results = parse_results(content, str(path))
    if not results:
        raise UserError(f"{path}: not a file of qdsft evaluate; move it away and evaluate again")
    identities = content.get("identities", {})
    if not isinstance(identities, dict):
        raise UserError(f"{path}: identities is not an object; evaluate again")
    return MetricsFile(results, identities, content.get("retrieval"))


def parse_results(content: object, where: str) -> Results:
    """Return the models' metrics of the content of a metrics.json; raises UserError that begins with `where`."""
    if not isinstance(content, dict):
        raise UserError(f"{where}: not a JSON object; evaluate again")
    return {name: parse_model_metrics(content[name], f"{where}: {name}") for name in MODELS if name in content}


def to_json(results: Results) -> dict[str, Any]:
    """Return the models' part of metrics.json."""
    return {name: metrics.to_json() for name, metrics in results.items()}


def read_metrics(run_dir: Path) -> Results:
    """Return the results in metrics.json; raises UserError as `read_metrics_file`."""
    return read_metrics_file(run_dir).results


def tuned_numbers(run_dir: Path) -> dict[str, float]:
    """Return the numbers among the trained model's metrics; empty if there are none.

    A damaged metrics.json counts as none and is reported, so that a list of runs can be completed.
    """
    try:
        tuned = read_metrics(run_dir).get("tuned")
    except UserError as error:
        say(str(error))
        return {}
    return {name: value for name in tuned.numbers() if (value := tuned.get(name)) is not None} if tuned else {}


def brief_metrics(run_dir: Path) -> Results:
    """Return the part of `read_metrics` that a card shows: known metrics, and which languages there are."""
    found = {}
    for model, metrics in read_metrics(run_dir).items():
        languages = {name: GroupMetrics(group.samples) for name, group in metrics.group("language").items()}
        known = {key: value for key, value in metrics.means.items() if key in BY_KEY}
        found[model] = replace(metrics, means=known, intervals={}, groups={"language": languages})
    return found


def read_example(run_dir: Path) -> dict[str, Any] | None:
    """Return `{"question", "sub_questions"}` of the first held-out question that was answered exactly as in gold.

    Returns None if there is none. Raises UserError naming file and line for a damaged predictions.jsonl.
    """
    path = run_dir / PREDICTIONS_FILE
    if not path.is_file():
        return None
    for row in read_prediction_rows(path):
        if row.scores.get("exact_match") == 1.0 and row.sub_questions is not None:
            return {"question": row.question, "sub_questions": row.sub_questions}
    return None


def method(manifest: Manifest) -> str:
    """Return how the run trained, in words."""
    lora = manifest.recipe.get("lora")
    if lora is None:
        return "full fine-tuning"
    kind = "QLoRA" if manifest.recipe.get("quantization") else "LoRA"
    return f"{kind}, rank {lora.get('r', 8)}"
