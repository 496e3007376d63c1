"""The retrieval table of report, card and terminal."""

from __future__ import annotations

from qdsft.metrics.model_metrics import ModelMetrics, PairedDifference
from qdsft.metrics.retrieval_scores import KEYS
from qdsft.runs.retrieval_table import RETRIEVAL_HEADS, retrieval_rows
from qdsft.scoring.report.results import retrieval_section

MEANS = {name: place / 100 for place, name in enumerate(KEYS)}
METRICS = ModelMetrics(4, MEANS, differences={"retrieval_recall": PairedDifference(0.5, (-0.25, 0.75))})


def test_without_retrieval_there_is_no_table() -> None:
    results = {"tuned": ModelMetrics(4, {"sari": 0.5})}
    assert retrieval_rows(results) == [] and retrieval_section(results) == ""


def test_the_rows_of_one_model() -> None:
    rows = dict(retrieval_rows({"tuned": METRICS}))
    assert list(rows) == [
        *("question alone", "predicted steps", "question and predicted steps", "question and gold steps")
    ]
    assert all(len(cells) == len(RETRIEVAL_HEADS) - 1 for cells in rows.values())
    cell = rows["question and predicted steps"][0]
    assert (cell.mean_text, cell.difference_text) == ("0.020", "+0.500, -0.250 to +0.750")
    assert rows["question alone"][0].difference_text == ""


def test_values_that_predictions_do_not_change_are_shown_once() -> None:
    names = [name for name, _ in retrieval_rows({"tuned": METRICS, "baseline": METRICS})]
    assert names == [
        "question alone",
        *("predicted steps, tuned", "predicted steps, baseline"),
        *("question and predicted steps, tuned", "question and predicted steps, baseline"),
        "question and gold steps",
    ]
    assert "+0.500, -0.250 to +0.750" in retrieval_section({"tuned": METRICS})
