"""Sections made from metrics.json: headline values, all metrics, groups and faults."""

from __future__ import annotations

from dataclasses import replace

from helpers.report_inputs import metrics, predictions
from helpers.svg_checks import Page, cells, drawings, parse

from qdsft.metrics.catalog import shown_in
from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics
from qdsft.scoring.report.results import MOST_GROUPS, faults_section, groups_section, results_section

ROWS = predictions(60)
TUNED, BASELINE = metrics(ROWS), metrics(ROWS, worse=0.2)


def test_headline_values_have_their_intervals_and_the_baseline() -> None:
    text = Page(results_section({"tuned": TUNED, "baseline": BASELINE})).text
    low, high = TUNED.intervals["exact_match"]
    values = (TUNED.means["exact_match"], low, high, BASELINE.means["exact_match"])
    assert "exact match{:.3f}{:.3f} to {:.3f}baseline {:.3f}".format(*values) in text


def test_every_metric_says_what_it_means_and_which_way_is_better() -> None:
    tuned = replace(TUNED, means={**TUNED.means, "ged": 0.25})
    table = {row[0]: row[1:] for row in cells(results_section({"tuned": tuned, "baseline": BASELINE}))}
    (distance,) = (name for name in table if name.startswith("GED"))
    assert distance.endswith("lower is better") and table[distance] == ["0.250", "–"]
    (loss,) = (name for name in table if name.startswith("loss"))
    assert loss.endswith("lower is better") and table[loss] == ["0.410", "0.610"]
    (rows,) = (name for name in table if name.startswith("rows"))
    assert "better" not in rows and table[rows] == ["60", "60"]


def test_groups_are_tables_and_bars() -> None:
    html = groups_section({"tuned": TUNED, "baseline": BASELINE})
    english = TUNED.groups["language"]["en"].means
    columns = [metric.key for metric in shown_in("groups") if metric.key in english]
    assert ["en", "30", *(f"{english[key]:.3f}" for key in columns)] in cells(html)
    assert [parse(drawing).get("aria-label") for drawing in drawings(html)] == [
        *("SARI by language", "SARI by steps", "SARI by source")
    ]
    for name, value in (("tuned", english["sari"]), ("baseline", english["sari"] - 0.2)):
        assert f"en: {name} {value:.3f}" in html


def test_groups_of_steps_are_in_the_order_of_numbers_and_many_are_cut() -> None:
    steps = {str(n): GroupMetrics(n, {"sari": 0.5}) for n in (10, 9, 2)}
    sources = {f"source {n}": GroupMetrics(n, {"sari": 0.5}) for n in range(30)}
    html = groups_section({"tuned": ModelMetrics(21, {}, groups={"steps": steps, "source": sources})})
    names = [row[0] for row in cells(html)]
    assert names[:5] == ["steps", "2", "9", "10", "source"] and len(names) == 5 + MOST_GROUPS
    assert names[5] == "source 29" and "10 more groups" in html


def test_faults_are_counted_in_rows() -> None:
    html = faults_section({"tuned": ModelMetrics(40, {"dangling_reference": 0.075, "empty_step": 0.0})})
    assert [row[1] for row in cells(html)] == ["tuned", "37.5%", "00.0%"]
    assert faults_section({"tuned": ModelMetrics(40, {})}) == ""
