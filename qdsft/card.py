"""README.md of a run directory: the model card, made from run.json and metrics.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdsft.files import write_text
from qdsft.metrics.meanings import MEANINGS
from qdsft.run import Manifest


def write_card(run_dir: Path, manifest: Manifest) -> None:
    """Write the card to the run directory and beside the weights."""
    text = render_card(run_dir, manifest)
    write_text(run_dir / "README.md", text)
    write_text(run_dir / manifest.artifact / "README.md", text)


def render_card(run_dir: Path, manifest: Manifest) -> str:
    """The card as Markdown; paths of the machine that trained are left out."""
    name = manifest.base_model["name_or_path"]
    hub_name = name if _is_hub_name(name) else None
    header = ["---", f"library_name: {'peft' if manifest.artifact == 'adapter' else 'transformers'}"]
    header += [f"base_model: {hub_name}"] if hub_name else []
    header += ["pipeline_tag: text-generation", "tags:", "- question-decomposition", "- qdsft", "---"]
    facts = {
        "base model": hub_name or Path(name).name,
        "base model commit": manifest.base_model.get("revision"),
        "method": _method(manifest),
        "training rows": manifest.data["train_rows"],
        "held-out rows": manifest.data["eval_rows"],
        "optimizer steps": manifest.results.get("steps"),
        "first and last logged loss": _pair(manifest.results),
        "training time, seconds": manifest.results.get("seconds_training"),
        "device": manifest.device["name"],
        "versions": ", ".join(f"{package} {version}" for package, version in manifest.versions.items()),
        "code": manifest.git,
    }
    rows = [f"| {key} | {value} |" for key, value in facts.items() if value is not None]
    lines = [*header, "", f"# {Path(run_dir).name}", "", "| | |", "|---|---|", *rows, ""]
    lines += _metric_lines(run_dir)
    lines += [
        "## Use",
        "",
        "```bash",
        f'qdsft decompose {Path(run_dir).as_posix().split("/")[-1]} "your question"',
        "```",
    ]
    return "\n".join(lines) + "\n"


def metric_table(results: dict[str, dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """(metric, one value a model) in reading order, values as text; `-` for one that a model does not have."""
    table = []
    for key, meaning in MEANINGS.items():
        values = [result.get(key) for result in results.values()]
        if any(value is not None for value in values):
            table.append((meaning.name, [_shown(value) for value in values]))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def read_metrics(run_dir: Path) -> dict[str, dict[str, Any]]:
    """`{"tuned": {...}, "constrained": {...}, "baseline": {...}}` from metrics.json; empty where there is none."""
    path = run_dir / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: content[name] for name in ("tuned", "constrained", "baseline") if name in content}


def _metric_lines(run_dir: Path) -> list[str]:
    results = read_metrics(run_dir)
    if not results:
        return []
    head = ["## Held-out results", "", f"| metric | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    return [*head, *(f"| {label} | {' | '.join(values)} |" for label, values in metric_table(results)), ""]


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not Path(name).exists() and not name.startswith((".", "/", "~"))


def _method(manifest: Manifest) -> str:
    lora = manifest.recipe.get("lora")
    if lora is None:
        return "full fine-tuning"
    kind = "QLoRA" if manifest.recipe.get("quantization") else "LoRA"
    return f"{kind}, rank {lora.get('r', 8)}"


def _pair(results: dict[str, Any]) -> str | None:
    if results.get("first_loss") is None:
        return None
    return f"{results['first_loss']:.4f}, {results['last_loss']:.4f}"
