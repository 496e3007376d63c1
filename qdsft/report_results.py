"""The parts of a report that come from metrics.json: headline values, all metrics, groups and faults."""

from __future__ import annotations

from typing import Any

from qdsft.metric_meanings import COSTS, FAULTS, METRICS, RANKING, Meaning, direction, interval_in, number_in, shown
from qdsft.page import figure, section, table
from qdsft.row_charts import Value, bar_chart, interval_chart
from qdsft.svg import escape

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
    first = next(iter(results.values()), {})
    groups = first.get("groups")
    body = ""
    for kind, values in groups.items() if isinstance(groups, dict) else ():
        if isinstance(values, dict) and values:
            body += _grouping(str(kind), values, results)
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
            rows.append((meaning.name + arrow, [_value(values, key) for values in results.values()]))
    if not rows:
        return ""
    names = list(results)
    has_intervals = any(value and value.interval for _, values in rows for value in values)
    note = "Lines are 95 % bootstrap intervals." if has_intervals else ""
    note += " ↓: lower is better." if any(name.endswith("↓") for name, _ in rows) else ""
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


def _grouping(kind: str, groups: dict[str, Any], results: Results) -> str:
    kept = {str(name): values for name, values in groups.items() if isinstance(values, dict)}
    order = sorted(
        kept, key=lambda name: (int(name) if name.isdecimal() else 0, -(number_in(kept[name], "samples") or 0))
    )
    keys = [key for key in GROUP_COLUMNS if any(number_in(values, key) is not None for values in kept.values())]
    rows = [
        [escape(name), shown(number_in(kept[name], "samples")), *(shown(number_in(kept[name], key)) for key in keys)]
        for name in order[:MOST_GROUPS]
    ]
    title = _GROUP_NAMES.get(kind, f"By {kind}")
    heads = [escape(kind), "rows", *(METRICS[key].name for key in keys)]
    left_out = len(order) - len(rows)
    more = f'<p class="note">and {left_out} smaller groups, in metrics.json</p>' if left_out else ""
    values = f"<div><h3>{escape(title)}</h3>{table(title, heads, rows)}{more}</div>"
    return f'<div class="grid">{values}{_bars(kind, order, results)}</div>'


def _bars(kind: str, order: list[str], results: Results) -> str:
    models = [values.get("groups", {}).get(kind, {}) for values in results.values()]
    key = next(
        (key for key in RANKING if any(number_in(models[0].get(name, {}), key) is not None for name in order)), None
    )
    if key is None:
        return ""
    names = [name for name, model in zip(results, models, strict=True) if model][:2]
    rows = []
    for name in order[:MOST_GROUPS]:
        found = [number_in(model.get(name, {}), key) for model in models if model][:2]
        rows.append((name, [None if value is None else Value(value) for value in found]))
    return figure(METRICS[key].name, bar_chart(f"{METRICS[key].name} by {kind}", rows, names))
