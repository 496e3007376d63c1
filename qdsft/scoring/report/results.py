"""The parts of a report that come from metrics.json: headline values, all metrics, groups and faults."""

from __future__ import annotations

from collections.abc import Sequence

from qdsft.metrics.catalog import RANKING, Metric, of_kind, shown_in
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics
from qdsft.metrics.numbers import shown
from qdsft.runs.results import Results
from qdsft.scoring.report.page import figure, section, table
from qdsft.scoring.report.row_charts import Row, Value, bar_chart, interval_chart
from qdsft.scoring.report.text import escape

HEADLINE = 4
MOST_GROUPS = 20
_GROUP_NAMES = {"language": "By language", "steps": "By number of gold steps", "source": "By source"}


def results_section(results: Results) -> str:
    """Headline tiles, a chart of all shares with their intervals, and the table of everything."""
    body = f'<div class="wide">{_table(results)}{_shares(results)}</div>' if results else ""
    return section("results", "Held-out results", _tiles(results) + body)


def groups_section(results: Results) -> str:
    """For each way to group the rows a table and bars; empty for metrics without groups."""
    first = next(iter(results.values()), None)
    body = "".join(_grouping(kind, results) for kind in first.groups) if first else ""
    return section("groups", "Groups", body, "The same metrics on parts of the held-out rows.")


def faults_section(results: Results) -> str:
    """How many rows have each fault that is seen without a gold answer; empty for metrics without them."""
    rows = []
    for metric in _present(results, of_kind("fault")):
        cells = []
        for values in results.values():
            share = values.get(metric.key)
            counted = None if share is None else round(share * values.samples)
            cells.append(f"{shown(counted)}<span>{'' if share is None else f'{share:.1%}'}</span>")
        rows.append([_named(metric.name, metric.meaning), *cells])
    body = table("faults", ["fault", *map(escape, results)], rows) if rows else ""
    return section("faults", "Faults", body, "Rows with a fault that is seen without a gold answer.")


def _present(results: Results, metrics: Sequence[Metric]) -> list[Metric]:
    return [metric for metric in metrics if any(values.get(metric.key) is not None for values in results.values())]


def _tiles(results: Results) -> str:
    if not results:
        return ""
    (_, first), *others = results.items()
    metrics = [metric for metric in shown_in("tiles") if first.get(metric.key) is not None]
    tiles = ""
    for metric in metrics[:HEADLINE]:
        lines = [_interval(first, metric.key)]
        lines += [f"{escape(name)} {shown(values.get(metric.key))}" for name, values in others]
        under = "".join(f"<span>{line}</span>" for line in lines if line)
        called = f'<span class="called">{metric.name}</span>'
        tiles += f'<div class="tile">{called}<b>{shown(first.get(metric.key))}</b>{under}</div>'
    return f'<div class="tiles">{tiles}</div>'


def _interval(values: ModelMetrics, key: str) -> str:
    interval = values.intervals.get(key)
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _shares(results: Results) -> str:
    rows = []
    for metric in _present(results, of_kind("score")):
        arrow = " ↓" if metric.better == "lower" else ""
        rows.append(Row(metric.name + arrow, [_value(values, metric.key) for values in results.values()][:2]))
    if not rows:
        return ""
    names = list(results)
    has_intervals = any(value and value.interval for row in rows for value in row.values)
    note = "Lines are 95 % bootstrap intervals." if has_intervals else ""
    note += " ↓: lower is better." if any(row.label.endswith("↓") for row in rows) else ""
    drawing = interval_chart(f"all metrics: {', '.join(names)}", rows[:40], names[:2])
    return figure("At a glance", drawing, note.strip())


def _value(values: ModelMetrics, key: str) -> Value | None:
    value = values.get(key)
    return None if value is None else Value(value, values.intervals.get(key))


def _table(results: Results) -> str:
    rows = []
    for metric in _present(results, of_kind("score", "loss", "cost")):
        places = 1 if metric.kind == "cost" else 3
        cells = [
            shown(values.get(metric.key), places)
            + (f"<span>{_interval(values, metric.key)}</span>" if _interval(values, metric.key) else "")
            for values in results.values()
        ]
        rows.append([_named(metric.name, metric.meaning, metric.direction), *cells])
    return table("all metrics", ["metric", *map(escape, results)], rows) if rows else ""


def _named(name: str, *phrases: str) -> str:
    said = "; ".join(filter(None, phrases))
    return f'{escape(name)}<span class="meaning">{escape(said)}</span>'


def _grouping(kind: str, results: Results) -> str:
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
        values = [first[name].get(metric.key) for metric in metrics]
        rows.append([escape(name), shown(first[name].samples), *map(shown, values)])
    if not rows:
        return ""
    title = _GROUP_NAMES.get(kind, f"By {kind}")
    content = table(title, [escape(kind), "rows", *(metric.name for metric in metrics)], rows)
    left_out = len(order) - len(rows)
    more = f'<p class="note">and {left_out} more groups, in metrics.json</p>' if left_out else ""
    bars = _bars(kind, order[:MOST_GROUPS], {name: groups for name, groups in models.items() if groups})
    return f'<div class="grid"><div><h3>{escape(title)}</h3>{content}{more}</div>{bars}</div>'


def _bars(kind: str, groups: list[str], models: dict[str, dict[str, GroupMetrics]]) -> str:
    names = list(models)[:2]
    for metric in RANKING:
        found = [
            [own.get(metric.key) if (own := models[name].get(group)) else None for name in names] for group in groups
        ]
        if any(values[0] is not None for values in found):
            rows = [
                Row(group, [None if value is None else Value(value) for value in values])
                for group, values in zip(groups, found, strict=True)
            ]
            return figure(metric.name, bar_chart(f"{metric.name} by {kind}", rows, names))
    return ""
