"""report.html: a run's or an evaluation's results, curves and examples, in one file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.files import write_text
from qdsft.metrics.meanings import number_in
from qdsft.runs.layout import LOG, REPORT
from qdsft.runs.manifest import Manifest
from qdsft.scoring.report.curves import curves_section, distributions_section, read_log
from qdsft.scoring.report.examples import examples_section
from qdsft.scoring.report.page import page, section
from qdsft.scoring.report.results import Results, faults_section, groups_section, results_section
from qdsft.scoring.report.text import escape


def write_report(run_dir: Path, manifest: Manifest | None, results: Results, rows: Sequence[dict[str, Any]]) -> Path:
    """Write report.html into `run_dir`; returns its path.

    `results` holds the models' metrics as metrics.json does, what the page is about first; `rows` are its
    predictions. Without a manifest (predictions that came from elsewhere) there are no facts and curves of a run.
    What older files lack is left out. Raises UserError if the file cannot be written.
    """
    path = run_dir / REPORT
    write_text(path, render_report(run_dir, manifest, results, rows))
    return path


def render_report(run_dir: Path, manifest: Manifest | None, results: Results, rows: Sequence[dict[str, Any]]) -> str:
    """The page as HTML: the same for the same input."""
    name = run_dir.resolve().name
    log = read_log(run_dir / LOG) if manifest is not None else ([], 0)
    parts = [
        results_section(results),
        curves_section(*log),
        distributions_section(rows),
        groups_section(results),
        faults_section(results),
        examples_section(rows),
        _facts(manifest),
    ]
    found = re.findall(r'<section id="(\w+)"><h2>([^<]+)</h2>', "".join(parts))
    links = "".join(f'<a href="#{anchor}">{heading}</a>' for anchor, heading in found)
    lead = f'<p class="lead">{escape(_summary(manifest, results))}</p>'
    head = f'<h1>{escape(name)}</h1>{lead}<nav aria-label="parts">{links}</nav>'
    body = f"<header>{head}</header><main>{''.join(parts)}</main>"
    return page(name, body)


def _summary(manifest: Manifest | None, results: Results) -> str:
    first: dict[str, Any] = next(iter(results.values()), {})
    samples = number_in(first, "samples")
    scored = "" if samples is None else f"{samples:,} held-out questions"
    if manifest is None:
        return scored
    base = Path(manifest.base_model.name_or_path).name
    trained = f"fine-tuned on {manifest.data.train_rows:,} rows"
    return ", ".join(filter(None, (base, trained, scored)))


def _facts(manifest: Manifest | None) -> str:
    if manifest is None:
        return ""
    results = manifest.results
    facts = {
        "base model": Path(manifest.base_model.name_or_path).name,
        "base model commit": manifest.base_model.revision,
        "trained": "an adapter" if manifest.artifact == "adapter" else "all weights",
        "training rows": manifest.data.train_rows,
        "held-out rows": manifest.data.eval_rows,
        "optimizer steps": results.steps,
        "epochs": results.epochs,
        "training time": _duration(results.seconds_training),
        "peak memory, GiB": results.peak_memory_gib,
        "seed": manifest.recipe.get("seed"),
        "device": manifest.device.name,
        "code": manifest.git,
        "versions": ", ".join(f"{package} {version}" for package, version in manifest.versions.items()),
    }
    items = "".join(
        f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items() if value is not None
    )
    return section("run", "The run", f"<dl>{items}</dl>", "All of it, with every value of the recipe, is in run.json.")


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if seconds >= 120 else f"{seconds:.0f} s"
