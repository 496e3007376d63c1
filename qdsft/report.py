"""report.html: metrics, loss curve and examples of one run, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdsft.card import metric_table
from qdsft.files import write_text
from qdsft.run import Manifest

EXAMPLES = 20

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ccc; text-align: left }
img { max-width: 100% } ol, pre { margin: .2rem 0 } pre { white-space: pre-wrap }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem }
.note { color: #a00 } section { break-inside: avoid; margin: 1.5rem 0 }
"""


def write_report(
    run_dir: Path, manifest: Manifest, results: dict[str, dict[str, Any]], rows: Sequence[dict[str, Any]]
) -> Path:
    """Write report.html with the metrics of `results` and the first rows of predictions; returns its path."""
    table = "".join(
        f"<tr><td>{html.escape(label)}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
        for label, values in metric_table(results)
    )
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in results)
    base = Path(manifest.base_model["name_or_path"]).name
    body = [
        f"<h1>{html.escape(run_dir.resolve().name)}</h1>",
        f"<p>{html.escape(base)}, {manifest.data['train_rows']} training rows, {manifest.data['eval_rows']} held out",
        f"<h2>Held-out results</h2><table><tr><th>metric</th>{heads}</tr>{table}</table>",
        _picture(run_dir / "loss.png"),
        f"<h2>The first {min(EXAMPLES, len(rows))} held-out rows</h2>",
        *(_example(row) for row in rows[:EXAMPLES]),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(run_dir.resolve().name)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def _picture(path: Path) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<h2>Training loss</h2><img alt="training loss over steps" src="data:image/png;base64,{data}">'


def _example(row: dict[str, Any]) -> str:
    predicted = _steps(row.get("sub_questions", row["text"]))
    problems = "; ".join(row.get("problems", []))
    note = f'<p class="note">{html.escape(problems)}</p>' if problems else ""
    return (
        f"<section><h3>{html.escape(row['question'])}</h3><div class=pair>"
        f"<div><b>gold</b>{_steps(row['gold'])}</div><div><b>predicted</b>{predicted}{note}</div></div></section>"
    )


def _steps(steps: str | Sequence[str]) -> str:
    if isinstance(steps, str):
        return f"<pre>{html.escape(steps)}</pre>"
    return "<ol>" + "".join(f"<li>{html.escape(step)}</li>" for step in steps) + "</ol>"
