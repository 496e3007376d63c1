"""report.html: the results, curves and examples of a run or an evaluation, in one self-contained file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from qdsft.files import write_text
from qdsft.metrics.prediction_rows import PredictionRow
from qdsft.runs.layout import LOG, REPORT
from qdsft.runs.manifest import Manifest
from qdsft.runs.results import Results
from qdsft.scoring.report.curves import curves_section, distributions_section, read_log
from qdsft.scoring.report.examples import examples_section
from qdsft.scoring.report.markup import render
from qdsft.scoring.report.page import render_page
from qdsft.scoring.report.results import faults_section, groups_section, results_section, retrieval_section


def write_report(run_dir: Path, manifest: Manifest | None, results: Results, rows: Sequence[PredictionRow]) -> Path:
    """Write report.html into `run_dir` and return its path.

    The page is about the first model of `results`, and `rows` are the predictions of that model. Without a manifest
    (predictions of another system) the page has no facts and curves of a run. Raise UserError if the file cannot be
    written.
    """
    path = run_dir / REPORT
    write_text(path, render_report(run_dir, manifest, results, rows))
    return path


def render_report(run_dir: Path, manifest: Manifest | None, results: Results, rows: Sequence[PredictionRow]) -> str:
    """Return the page as HTML, equal for equal input."""
    name = run_dir.resolve().name
    log = read_log(run_dir / LOG) if manifest is not None else ([], 0)
    parts = [
        results_section(results),
        retrieval_section(results),
        curves_section(*log),
        distributions_section(rows),
        groups_section(results),
        faults_section(results),
        examples_section(rows),
        _facts(manifest),
    ]
    # The anchor and heading of every section that is not empty.
    links = re.findall(r'<section id="(\w+)"><h2>([^<]+)</h2>', "".join(parts))
    return render_page("report.html", name, summary=_summary(manifest, results), links=links, parts=parts)


def _summary(manifest: Manifest | None, results: Results) -> str:
    first = next(iter(results.values()), None)
    scored = f"{first.samples:,} held-out questions" if first else ""
    if manifest is None:
        return scored
    base = Path(manifest.base_model.name_or_path).name
    trained = f"fine-tuned on {manifest.data.train_rows:,} rows"
    return ", ".join(filter(None, (base, trained, scored)))


def _facts(manifest: Manifest | None) -> Markup:
    if manifest is None:
        return Markup("")
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
    return render("run.html", facts=facts)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if seconds >= 120 else f"{seconds:.0f} s"
