"""A comparison as text for the terminal and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdsft.metrics.catalog import BY_KEY
from qdsft.scoring.compare import ChangedRow, Comparison, Comparisons
from qdsft.scoring.report.page import Cell, Table, render_page

LISTED = 10
"""Changed rows of each kind that the terminal shows. The page has all of them."""
HEADS = ("metric", "first", "second", "difference", "95 % interval", "p", "won/tied/lost")


@dataclass(frozen=True)
class _Compared:
    table: Table
    changed: dict[str, list[ChangedRow]]


def comparison_lines(found: Comparisons) -> Iterator[str]:
    """Yield the lines of a table, with a part for every evaluation that is compared with the first."""
    longest = max((len(cells[0]) for one in found.comparisons for cells, _ in _cells(one)), default=0)
    widths = (max(longest, 23) + 1, 9, 9, 12, 19, 8, 15)
    yield f"first: {found.first}, {found.rows} rows"
    for comparison in found.comparisons:
        yield f"second: {comparison.name}"
        yield _spread(HEADS, widths)
        for cells, sure in _cells(comparison):
            yield _spread(cells, widths) + (" *" if sure else "")
    yield f"* {_explanation(found)}"
    for comparison in found.comparisons:
        for kind, rows in (("gained", comparison.gained), ("lost", comparison.lost)):
            yield f"exact match {kind} by {comparison.name}: {len(rows)} rows"
            yield from (f"  {row.row}: {row.question}" for row in rows[:LISTED])
            if len(rows) > LISTED:
                yield f"  and {len(rows) - LISTED} more; --json and --output have all"


def comparison_page(found: Comparisons) -> str:
    """Return the table of `comparison_lines` as HTML, with all rows that changed."""
    comparisons = []
    for comparison in found.comparisons:
        rows = [[Cell(cell, bold=sure) for cell in cells] for cells, sure in _cells(comparison)]
        changed = {"gained": comparison.gained, "lost": comparison.lost}
        comparisons.append(_Compared(Table(comparison.name, HEADS, rows), changed))
    return render_page(
        "compare.html",
        "qdsft compare",
        first=found.first,
        rows=found.rows,
        explanation=_explanation(found),
        comparisons=comparisons,
    )


def _cells(comparison: Comparison) -> Iterator[tuple[list[str], bool]]:
    """Yield the cells of each line, and whether its difference is significant."""
    for metric, values in comparison.metrics.items():
        low, high = values.interval
        yield (
            [
                BY_KEY[metric].name if metric in BY_KEY else metric,
                f"{values.first:.3f}",
                f"{values.second:.3f}",
                f"{values.difference:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{values.p_value:.4f}",
                f"{values.wins}/{values.ties}/{values.losses}",
            ],
            values.significant,
        )


def _explanation(found: Comparisons) -> str:
    several = sum(len(comparison.metrics) for comparison in found.comparisons)
    return (
        f"Significant: p is below 0.05 and the interval ({found.resamples} resamples) does not contain 0. If no "
        f"difference were real, about {several * 0.05:.1f} of {several} would still be significant by chance"
    )


def _spread(cells: list[str] | tuple[str, ...], widths: tuple[int, ...]) -> str:
    first, *rest = cells
    return f"{first:<{widths[0]}}" + "".join(f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
