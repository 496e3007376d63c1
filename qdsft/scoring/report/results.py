"""The parts of a report that come from metrics.json: headline values, all metrics, groups and faults."""

from __future__ import annotations

from typing import Any

from qdsft.metrics.meanings import (
    COSTS,
    FAULTS,
    METRICS,
    RANKING,
    Meaning,
    direction,
    groups_in,
    interval_in,
    number_in,
    shown,
)
from qdsft.scoring.report.page import figure, section, table
from qdsft.scoring.report.row_charts import Row, Value, bar_chart, interval_chart
from qdsft.scoring.report.text import escape

Results = dict[str, dict[str, Any]]
"""`{"tuned": metrics, "baseline": metrics}`: what the page is about first."""

HEADLINE = 4
MOST_GROUPS = 20
GROUP_COLUMNS = ("exact_match", "sari", "step_f1", "edge_f1", "valid")
_GROUP_NAMES = {"language": "By language", "steps": "By number of gold steps", "source": "By source"}


def results_section(results: Results) -> str:
    """Headline tiles, a chart of all shares with their intervals, and the table of everything."""
    body = f'<div class="wide">{_table(results)}{_shares(results)}</div>' if results else ""
    return section("results", "Held-out results", _tiles(results) + body)


def groups_section(results: Results) -> str:
    """For each way to group the rows a table and bars; empty for metrics without groups."""
    kinds = next(iter(results.values()), {}).get("groups")
    body = "".join(_grouping(str(kind), results) for kind in kinds) if isinstance(kinds, dict) else ""
    return section("groups", "Groups", body, "The same metrics on parts of the held-out rows.")


def faults_section(results: Results) -> str:
    """How many rows have each fault that is seen without a gold answer; empty for metrics without them."""
    rows = []
    for key, meaning in _present(results, FAULTS).items():
        cells = []
        for values in results.values():
            share, samples = number_in(values, key), number_in(values, "samples")
            counted = None if share is None or samples is None else round(share * samples)
            cells.append(f"{shown(counted)}<span>{'' if share is None else f'{share:.1%}'}</span>")
        rows.append([_named(meaning.name, meaning.phrase), *cells])
    body = table("faults", ["fault", *map(escape, results)], rows) if rows else ""
    return section("faults", "Faults", body, "Rows with a fault that is seen without a gold answer.")


def _present(results: Results, meanings: dict[str, Meaning]) -> dict[str, Meaning]:
    found = [key for key in meanings if any(number_in(values, key) is not None for values in results.values())]
    return {key: meanings[key] for key in found}


def _tiles(results: Results) -> str:
    if not results:
        return ""
    (_, first), *others = results.items()
    wanted = ("exact_match", *RANKING, "edge_f1", "valid", "stopped", "step_count_accuracy")
    keys = [key for key in dict.fromkeys(wanted) if number_in(first, key) is not None]
    tiles = ""
    for key in keys[:HEADLINE]:
        lines = [_interval(first, key)]
        lines += [f"{escape(name)} {shown(number_in(values, key))}" for name, values in others]
        under = "".join(f"<span>{line}</span>" for line in lines if line)
        called = f'<span class="called">{METRICS[key].name}</span>'
        tiles += f'<div class="tile">{called}<b>{shown(number_in(first, key))}</b>{under}</div>'
    return f'<div class="tiles">{tiles}</div>'


def _interval(values: dict[str, Any], key: str) -> str:
    interval = interval_in(values, key)
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _shares(results: Results) -> str:
    rows = []
    for key, meaning in _present(results, METRICS).items():
        if key != "loss":
            arrow = " ↓" if meaning.better == "lower" else ""
            rows.append(Row(meaning.name + arrow, [_value(values, key) for values in results.values()][:2]))
    if not rows:
        return ""
    names = list(results)
    has_intervals = any(value and value.interval for row in rows for value in row.values)
    note = "Lines are 95 % bootstrap intervals." if has_intervals else ""
    note += " ↓: lower is better." if any(row.label.endswith("↓") for row in rows) else ""
    drawing = interval_chart(f"all metrics: {', '.join(names)}", rows[:40], names[:2])
    return figure("At a glance", drawing, note.strip())


def _value(values: dict[str, Any], key: str) -> Value | None:
    value = number_in(values, key)
    return None if value is None else Value(value, interval_in(values, key))


def _table(results: Results) -> str:
    rows = []
    for key, meaning in _present(results, METRICS | COSTS).items():
        places = 1 if key in COSTS else 3
        cells = [
            shown(number_in(values, key), places)
            + (f"<span>{_interval(values, key)}</span>" if _interval(values, key) else "")
            for values in results.values()
        ]
        rows.append([_named(meaning.name, meaning.phrase, direction(meaning)), *cells])
    return table("all metrics", ["metric", *map(escape, results)], rows) if rows else ""


def _named(name: str, *phrases: str) -> str:
    said = "; ".join(filter(None, phrases))
    return f'{escape(name)}<span class="meaning">{escape(said)}</span>'


def _grouping(kind: str, results: Results) -> str:
    models = {name: groups_in(values, kind) for name, values in results.items()}
    first = next(iter(models.values()))
    order = sorted(
        first, key=lambda name: (int(name) if name.isdecimal() and len(name) < 10 else 0, -_samples(first[name]))
    )
    keys = [key for key in GROUP_COLUMNS if any(number_in(values, key) is not None for values in first.values())]
    rows = []
    for name in order[:MOST_GROUPS]:
        values = [number_in(first[name], key) for key in ("samples", *keys)]
        rows.append([escape(name), *map(shown, values)])
    if not rows:
        return ""
    title = _GROUP_NAMES.get(kind, f"By {kind}")
    content = table(title, [escape(kind), "rows", *(METRICS[key].name for key in keys)], rows)
    left_out = len(order) - len(rows)
    more = f'<p class="note">and {left_out} more groups, in metrics.json</p>' if left_out else ""
    bars = _bars(kind, order[:MOST_GROUPS], {name: groups for name, groups in models.items() if groups})
    return f'<div class="grid"><div><h3>{escape(title)}</h3>{content}{more}</div>{bars}</div>'


def _samples(values: dict[str, Any]) -> float:
    return number_in(values, "samples") or 0


def _bars(kind: str, groups: list[str], models: dict[str, dict[str, dict[str, Any]]]) -> str:
    names = list(models)[:2]
    for key in RANKING:
        found = [[number_in(models[name].get(group, {}), key) for name in names] for group in groups]
        if any(values[0] is not None for values in found):
            rows = [
                Row(group, [None if value is None else Value(value) for value in values])
                for group, values in zip(groups, found, strict=True)
            ]
            return figure(METRICS[key].name, bar_chart(f"{METRICS[key].name} by {kind}", rows, names))
    return ""
