"""A comparison as text for the terminal, and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdsft.metrics.meanings import MEANINGS
from qdsft.scoring.report.page import page, table
from qdsft.scoring.report.text import escape

LISTED = 10
"""Changed rows that the terminal shows of each kind; the page has all."""
HEADS = ("metric", "first", "second", "difference", "95 % interval", "p", "won/tied/lost")


def comparison_lines(found: dict[str, Any]) -> Iterator[str]:
    """The lines of one table, with a part for every evaluation that is compared with the first."""
    widths = (24, 9, 9, 12, 19, 8, 15)
    yield f"first: {found['first']}, {found['rows']} rows"
    for comparison in found["comparisons"]:
        yield f"second: {comparison['name']}"
        yield _spread(HEADS, widths)
        for cells, sure in _cells(comparison):
            yield _spread(cells, widths) + (" *" if sure else "")
    yield f"* {_explanation(found)}"
    for comparison in found["comparisons"]:
        for kind in ("gained", "lost"):
            rows = comparison[kind]
            yield f"exact match {kind} by {comparison['name']}: {len(rows)} rows"
            yield from (f"  {row['row']}: {row['question']}" for row in rows[:LISTED])
            if len(rows) > LISTED:
                yield f"  and {len(rows) - LISTED} more; --json and --output have all"


def comparison_page(found: dict[str, Any]) -> str:
    """The same as HTML, with all rows that changed."""
    lead = f'<p class="lead">{found["rows"]} rows. {escape(_explanation(found))}</p>'
    parts = [f"<h1>Comparison with {escape(found['first'])}</h1>{lead}"]
    for comparison in found["comparisons"]:
        name = comparison["name"]
        rows = [
            [f"<b>{escape(cell)}</b>" if sure else escape(cell) for cell in cells] for cells, sure in _cells(comparison)
        ]
        parts.append(f"<h2>{escape(name)}</h2>{table(name, HEADS, rows)}")
        for kind in ("gained", "lost"):
            changed = "".join(f"<li value={row['row']}>{escape(row['question'])}</li>" for row in comparison[kind])
            parts.append(f"<h3>Exact match {kind}: {len(comparison[kind])} rows</h3><ol>{changed}</ol>")
    return page("qdsft compare", "".join(parts))


def _cells(comparison: dict[str, Any]) -> Iterator[tuple[list[str], bool]]:
    """(cells of a line, whether its difference is significant)."""
    for metric, values in comparison["metrics"].items():
        low, high = values["interval"]
        yield (
            [
                MEANINGS[metric].name if metric in MEANINGS else metric,
                f"{values['first']:.3f}",
                f"{values['second']:.3f}",
                f"{values['difference']:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{values['p_value']:.4f}",
                f"{values['wins']}/{values['ties']}/{values['losses']}",
            ],
            values["significant"],
        )


def _explanation(found: dict[str, Any]) -> str:
    several = sum(len(comparison["metrics"]) for comparison in found["comparisons"])
    return (
        f"Significant: p below 0.05 and 0 outside of the interval ({found['resamples']} resamples); of {several} "
        f"differences that are none, {several * 0.05:.1f} look so by luck"
    )


def _spread(cells: list[str] | tuple[str, ...], widths: tuple[int, ...]) -> str:
    first, *rest = cells
    return f"{first:<{widths[0]}}" + "".join(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
