"""The model card: README.md of a run directory, made from run.json and metrics.json."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.console import visible
from qdsft.files import write_text
from qdsft.metrics.catalog import METRICS
from qdsft.runs.card_header import card_header
from qdsft.runs.certificate import Certificate
from qdsft.runs.facts import ResultFacts
from qdsft.runs.layout import CARD
from qdsft.runs.manifest import Manifest
from qdsft.runs.public import base_on_hub, public_base
from qdsft.runs.results import Results, method, parse_results, read_example, read_metrics
from qdsft.runs.retrieval_table import RETRIEVAL_HEADS, RETRIEVAL_NOTE, RetrievalCell, retrieval_rows

_MARKDOWN = re.compile(r"[\\`*\[\]|!]|(?<!\w)_|_(?!\w)")
EXAMPLE = "Who is older, Ada Lovelace or Charles Babbage?"


def write_card(run_dir: Path, manifest: Manifest) -> None:
    """Write the card to the run directory and beside the weights."""
    text = render_card(run_dir, manifest)
    write_text(run_dir / CARD, text)
    write_text(manifest.weights_folder(run_dir) / CARD, text)


def render_card(
    run_dir: Path,
    manifest: Manifest,
    *,
    name: str | None = None,
    merge: Certificate | None = None,
    licence: dict[str, str] | None = None,
) -> str:
    """Return the card as Markdown, without paths of the machine that trained.

    `merge` is the certificate of a merged model. `name` is what others load: `user/name` on the Hub, or a folder.
    """
    results = parse_results(merge.results_of_adapter, str(run_dir)) if merge else read_metrics(run_dir)
    name = name or Path(run_dir).resolve().name
    title = _one_line(name.rpartition("/")[2])
    facts = {
        "base model": public_base(manifest),
        "base model commit": manifest.base_model.revision,
        "method": merge.method if merge else method(manifest),
        "training rows": manifest.data.train_rows,
        "held-out rows": manifest.data.eval_rows,
        "optimizer steps": manifest.results.steps,
        "first and last logged loss": _losses(manifest.results),
        "training time, seconds": manifest.results.seconds_training,
        "device": manifest.device.name,
        "versions": ", ".join(f"{package} {version}" for package, version in manifest.versions.items()),
        "code": manifest.git,
    }
    rows = [f"| {key} | {_cell(value)} |" for key, value in facts.items() if value not in (None, "")]
    header = card_header(manifest, title, results, merged=merge is not None, licence=licence)
    lines = [header, f"# {title}", "", "| | |", "|---|---|", *rows, ""]
    lines += _metric_lines(results, "Held-out results" + (" of the adapter, before the merge" if merge else ""))
    lines += _retrieval_lines(results)
    lines += _merge_lines(merge) if merge else []
    lines += _example_lines(_merged_example(merge) if merge else read_example(run_dir))
    on_hub = "/" in name
    inside = manifest.weights_folder(run_dir).relative_to(run_dir)
    weights = name if on_hub or merge else (Path(name) / inside).as_posix()
    lines += _use_lines(manifest, name, weights, is_adapter=manifest.artifact == "adapter" and merge is None)
    return "\n".join(lines) + "\n"


def metric_table(results: Results) -> list[tuple[str, list[str]]]:
    """Return (metric, one text per model) in reading order; `-` where a model lacks the metric.

    The retrieval metrics have a separate table, `retrieval_rows`.
    """
    table = []
    for metric in METRICS:
        if metric.kind == "retrieval":
            continue
        values = [result.get(metric.key) for result in results.values()]
        if any(value is not None for value in values):
            table.append((metric.name, [_shown(value) for value in values]))
    return table


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _example_lines(example: dict[str, Any] | None) -> list[str]:
    if not example:
        return []
    steps = [f"  {number}. {step}" for number, step in enumerate(example["sub_questions"], 1)]
    return [
        "## Example",
        "",
        "A held-out question and the answer to it:",
        "",
        *_fenced("", [example["question"], *steps]),
        "",
    ]


def _metric_lines(results: Results, heading: str) -> list[str]:
    if not results:
        return []
    head = [f"## {heading}", "", f"| metric | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    return [*head, *(f"| {label} | {' | '.join(values)} |" for label, values in metric_table(results)), ""]


def _retrieval_lines(results: Results) -> list[str]:
    rows = retrieval_rows(results)
    if not rows:
        return []
    head = ["## Retrieval", "", RETRIEVAL_NOTE, "", f"| {' | '.join(RETRIEVAL_HEADS)} |"]
    lines = [f"| {name} | {' | '.join(map(_retrieval_text, cells))} |" for name, cells in rows]
    return [*head, "|---|" + "---|" * (len(RETRIEVAL_HEADS) - 1), *lines, ""]


def _retrieval_text(cell: RetrievalCell) -> str:
    return f"{cell.mean_text} ({cell.difference_text})" if cell.difference_text else cell.mean_text


def _merged_example(merge: Certificate) -> dict[str, Any] | None:
    return merge.example.model_dump() if merge.example else None


def _merge_lines(merge: Certificate) -> list[str]:
    """Return the section on the merge certificate."""
    state = {True: "passed", False: f"**not passed**: {_cell('; '.join(merge.failed))}", None: "not measured"}
    lines = [
        "## Merge",
        "",
        f"The adapter was merged into the {_cell(merge.base)} base model in float32 and cast once to "
        f"{_cell(merge.dtype)}. "
        f"Agreement with the adapter as it was trained: {state[merge.passed]}.",
        "",
    ]
    if not merge.candidates:
        return lines
    lines += ["| base | mean KL, nats | largest logit difference | equal answers |", "|---|---|---|---|"]
    for base, found in merge.candidates.items():
        logits, answers = found.logits, found.answers
        equal = f"{answers.identical:.0%} of {answers.compared}"
        lines.append(f"| {_cell(base)} | {logits.mean_kl:.2g} | {logits.largest_difference:.2g} | {equal} |")
    return [*lines, ""]


def _use_lines(manifest: Manifest, name: str, weights: str, *, is_adapter: bool) -> list[str]:
    """Return how to use a model that others load as `name`; `weights` is what transformers or PEFT load."""
    messages = [dict(message) for message in manifest.golden_prompts[0].messages] if manifest.golden_prompts else []
    load = [f"model = AutoModelForCausalLM.from_pretrained({_text(weights)})"]
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if is_adapter:
        base = public_base(manifest)
        imports = f"from peft import PeftModel\n{imports}"
        load = [f"base = AutoModelForCausalLM.from_pretrained({_text(base)})"]
        load += [f"model = PeftModel.from_pretrained(base, {_text(weights)})"]
    folder = shlex.quote(name.rpartition("/")[2])
    download = [f"hf download {shlex.quote(name)} --local-dir {folder}"] if "/" in name else []
    lines = ["## Use", "", *_fenced("bash", [*download, f'qdsft decompose {folder} "{EXAMPLE}"']), ""]
    if "/" not in name:
        shown = _one_line(name).replace("`", "'")
        lines += [f"The paths are relative to the folder that holds `{shown}`.", ""]
    if is_adapter and not base_on_hub(manifest):
        lines += ["The base model is not on the Hub; it must exist as a local folder of that name.", ""]
    code = [
        imports,
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({_text(weights)})",
        *load,
        f"messages = {json.dumps(messages, ensure_ascii=False)}",
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
        f"stop = {manifest.stop_token_ids}",
        f"limit = {manifest.recipe['evaluation']['max_new_tokens']}",
        "output = model.generate(",
        "    **inputs, max_new_tokens=limit, do_sample=False, eos_token_id=stop, pad_token_id=tokenizer.pad_token_id",
        ")",
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return [*lines, "Without qdsft, with the wording that it was trained on:", "", *_fenced("python", code)]


def _text(value: str) -> str:
    """Return a text as Python and JSON write it."""
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return visible(" ".join(text.split()))


def _cell(value: object) -> str:
    """Return a value as text of a sentence or table cell: Markdown in names and questions of others has no effect."""
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(str(value))).replace("<", "&lt;")


def _fenced(language: str, lines: Sequence[str]) -> list[str]:
    """Return a block of code whose fence is longer than each in its lines."""
    text = visible("\n".join(lines))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}{language}", text, fence]


def _losses(results: ResultFacts) -> str | None:
    if results.first_loss is None or results.last_loss is None:
        return None
    return f"{results.first_loss:.4f}, {results.last_loss:.4f}"
