"""The sections of a report made from metrics.json: headline values, all metrics, groups and faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from qdsft.metrics.catalog import RANKING, Metric, of_kind, shown_in
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics
from qdsft.metrics.numbers import shown
from qdsft.runs.results import Results
from qdsft.runs.retrieval_table import RETRIEVAL_HEADS, RETRIEVAL_NOTE, retrieval_rows
from qdsft.scoring.report.markup import render
from qdsft.scoring.report.page import Cell, Figure, Table
from qdsft.scoring.report.row_charts import ChartRow, Value, bar_chart, interval_chart

HEADLINE = 4
MOST_GROUPS = 20
_GROUP_NAMES = {"language": "By language", "steps": "By number of gold steps", "source": "By source"}


@dataclass(frozen=True)
class _Tile:
    name: str
    value: str
    lines: list[str]


@dataclass(frozen=True)
class _Group:
    table: Table
    left_out: int
    chart: Figure | None


def results_section(results: Results) -> Markup:
    """Return headline tiles, a chart of all shares with their intervals, and the table of all metrics."""
    if not results:
        return Markup("")
    return render("results.html", tiles=_tiles(results), metrics=_table(results), chart=_shares(results))


def groups_section(results: Results) -> Markup:
    """Return a table and bars for each way of grouping the rows; empty for metrics without groups."""
    first = next(iter(results.values()), None)
    groups = [group for kind in first.groups if (group := _grouping(kind, results))] if first else []
    return render("groups.html", groups=groups) if groups else Markup("")


def faults_section(results: Results) -> Markup:
    """Return the number of rows with each fault that can be found without the gold answer."""
    rows = []
    for metric in _present(results, of_kind("fault")):
        cells = [Cell(metric.name, metric.meaning)]
        for values in results.values():
            share = values.get(metric.key)
            counted = None if share is None else round(share * values.samples)
            cells.append(Cell(shown(counted), "" if share is None else f"{share:.1%}"))
        rows.append(cells)
    return render("faults.html", faults=Table("faults", ["fault", *results], rows)) if rows else Markup("")


def retrieval_section(results: Results) -> Markup:
    """Return the table of the retrieval metrics; empty without them."""
    found = retrieval_rows(results)
    if not found:
        return Markup("")
    rows = [[Cell(name), *(Cell(cell.mean_text, cell.difference_text) for cell in cells)] for name, cells in found]
    return render("retrieval.html", passages=Table("retrieval", RETRIEVAL_HEADS, rows), note=RETRIEVAL_NOTE)


def _present(results: Results, metrics: Sequence[Metric]) -> list[Metric]:
    return [metric for metric in metrics if any(values.get(metric.key) is not None for values in results.values())]


def _tiles(results: Results) -> list[_Tile]:
    (_, first), *others = results.items()
    metrics = [metric for metric in shown_in("tiles") if first.get(metric.key) is not None]
    tiles = []
    for metric in metrics[:HEADLINE]:
        lines = [f"{name} {shown(values.get(metric.key))}" for name, values in others]
        if interval := _interval(first, metric.key):
            lines.insert(0, interval)
        tiles.append(_Tile(metric.name, shown(first.get(metric.key)), lines))
    return tiles


def _interval(values: ModelMetrics, key: str) -> str:
    interval = values.intervals.get(key)
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _shares(results: Results) -> Figure | None:
    names = list(results)[:2]
    rows = []
    for metric in _present(results, of_kind("score")):
        arrow = " ↓" if metric.better == "lower" else ""
        rows.append(ChartRow(metric.name + arrow, [_value(results[name], metric.key) for name in names]))
    if not rows:
        return None
    has_intervals = any(value and value.interval for row in rows for value in row.values)
    note = "Lines are 95 % bootstrap intervals." if has_intervals else ""
    note += " ↓: lower is better." if any(row.label.endswith("↓") for row in rows) else ""
    return Figure("At a glance", interval_chart(f"all metrics: {', '.join(names)}", rows[:40], names), note.strip())


def _value(values: ModelMetrics, key: str) -> Value | None:
    value = values.get(key)
    return None if value is None else Value(value, values.intervals.get(key))


def _table(results: Results) -> Table:
    rows = []
    for metric in _present(results, of_kind("score", "loss", "cost")):
        places = 1 if metric.kind == "cost" else 3
        cells = [
            Cell(shown(values.get(metric.key), places), _interval(values, metric.key)) for values in results.values()
        ]
        rows.append([Cell(metric.name, "; ".join(filter(None, (metric.meaning, metric.direction)))), *cells])
    return Table("all metrics", ["metric", *results], rows)


def _grouping(kind: str, results: Results) -> _Group | None:
    models = {name: values.group(kind) for name, values in results.items()}
    first = next(iter(models.values()))
    order = sorted(
        first, key=lambda name: (int(name) if name.isdecimal() and len(name) < 10 else 0, -first[name].samples)
    )
    metrics = [
        metric for metric in shown_in("groups") if any(values.get(metric.key) is not None for values in first.values())
    ]
    rows = []
    for name in order[:MOST_GROUPS]:
        values = [first[name].samples, *(first[name].get(metric.key) for metric in metrics)]
        rows.append([Cell(name), *(Cell(shown(value)) for value in values)])
    if not rows:
        return None
    heads = [kind, "rows", *(metric.name for metric in metrics)]
    bars = _bars(kind, order[:MOST_GROUPS], {name: groups for name, groups in models.items() if groups})
    return _Group(Table(_GROUP_NAMES.get(kind, f"By {kind}"), heads, rows), len(order) - len(rows), bars)


def _bars(kind: str, groups: list[str], models: dict[str, dict[str, GroupMetrics]]) -> Figure | None:
    names = list(models)[:2]
    for metric in RANKING:
        found = [
            [own.get(metric.key) if (own := models[name].get(group)) else None for name in names] for group in groups
        ]
        if any(values[0] is not None for values in found):
            rows = [
                ChartRow(group, [None if value is None else Value(value) for value in values])
                for group, values in zip(groups, found, strict=True)
            ]
            return Figure(metric.name, bar_chart(f"{metric.name} by {kind}", rows, names))
    return None
