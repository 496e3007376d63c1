"""BREAK's scores over many rows: the official evaluator's recorded results, order, and planted faults."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from statistics import fmean

import pytest
from helpers.paths import TEST_DATA

from qdsft.data.formats.break_csv import break_steps
from qdsft.errors import UserError
from qdsft.metrics.break_official.break_scores import BreakRow, break_scores
from qdsft.metrics.break_official.english_model import MODELS

OFFICIAL = TEST_DATA / "break_official_99"

needs_spacy = pytest.mark.skipif(
    find_spec("spacy") is None or not any(map(find_spec, MODELS)), reason="spaCy or its English model is not installed"
)
needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason=f"BREAK's recorded official results are not in {OFFICIAL}"
)

GOLD = ["cubes", "spheres", "number of #1", "number of #2", "which is highest of #3 , #4"]


def official_rows() -> list[BreakRow]:
    labels, predictions = (
        list(csv.DictReader((OFFICIAL / name).open(encoding="utf-8", newline="")))
        for name in ("labels.csv", "predictions.csv")
    )
    return [
        (label["question_text"], break_steps(label["decomposition"]), break_steps(prediction["decomposition"]))
        for label, prediction in zip(labels, predictions, strict=True)
    ]


@needs_spacy
@pytest.mark.slow
@needs_official
@pytest.mark.parametrize("workers", [1, 2])
def test_every_row_equals_the_official_evaluator(workers: int) -> None:
    with (OFFICIAL / "results_full.tsv").open(encoding="utf-8", newline="") as file:
        recorded = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    scores = break_scores(official_rows(), lexical=True, workers=workers)
    assert len(scores) == len(recorded) == 99
    for row, found in zip(recorded, scores, strict=True):
        assert found["ged"] == pytest.approx(float(row["ged"]), rel=0, abs=1e-9), row["id"]
        assert found["ged_inexact"] == 0.0
    mean = json.loads((OFFICIAL / "metrics.json").read_text(encoding="utf-8"))["ged"]
    assert fmean(found["ged"] or 0.0 for found in scores) == pytest.approx(mean, rel=0, abs=1e-9)


@needs_spacy
@pytest.mark.slow
def test_identical_content_without_return_is_not_perfect() -> None:
    gold = "return large spheres ;return color of #1"
    with_return, without = break_scores(
        [("", break_steps(gold), break_steps(text)) for text in (gold, gold.replace("return ", ""))], lexical=True
    )
    assert with_return["ged"] == 0.0
    # The leading space is a separate lemma: 1 - 4/5 and 1 - 6/7, over 2 nodes and 1 edge.
    assert without["ged"] == pytest.approx((1 / 5 + 1 / 7) / 3, abs=1e-9)
    assert without["structural_ged"] == 0.0


@needs_spacy
@pytest.mark.slow
def test_planted_faults_raise_the_distance() -> None:
    wrong_reference = [*GOLD[:4], "which is highest of #3 , #2"]
    planted = {
        "nothing": GOLD,
        "self reference": [*GOLD[:4], "which is highest of #3 , #5"],
        "dangling": [*GOLD[:4], "which is highest of #3 , #9"],
        "wrong reference": wrong_reference,
        "dropped": GOLD[:4],
        "surplus": [*GOLD, "number of #5"],
        "merged": [" ".join(GOLD)],
        "other words": ["cats", "dogs", "height of #1", "height of #2", "are they equal : #3 , #4"],
    }
    scores = dict(
        zip(planted, break_scores([("", GOLD, steps) for steps in planted.values()], lexical=True), strict=True)
    )
    lexical = {name: row["ged"] or 0.0 for name, row in scores.items()}
    structural = {name: row["structural_ged"] or 0.0 for name, row in scores.items()}
    assert {name for name, value in lexical.items() if value == 0} == {"nothing"}
    assert {name for name, value in structural.items() if value == 0} == {"nothing", "self reference", "other words"}
    assert lexical["wrong reference"] < lexical["merged"]


def test_the_rows_keep_their_order_and_structure_needs_no_spacy() -> None:
    rows = [("", GOLD, GOLD[:count]) for count in (5, 4, 3, 2, 1, 0)] * 30
    scores = break_scores(rows, lexical=False)
    # 9 nodes and edges; each step left out takes itself and its edges along.
    kept = {5: 9, 4: 6, 3: 4, 2: 2, 1: 1, 0: 0}
    assert [row["structural_ged"] for row in scores] == pytest.approx([1 - kept[len(row[2])] / 9 for row in rows])
    assert all(row.keys() == {"structural_ged", "ged_inexact"} for row in scores)


@pytest.mark.slow
def test_several_processes_give_what_one_gives() -> None:
    rows = [("", GOLD, [*GOLD[:drop], f"which of #{drop}"]) for drop in range(5)] * 40
    assert break_scores(rows, lexical=False, workers=2) == break_scores(rows, lexical=False, workers=1)


def test_distances_cut_short_are_counted() -> None:
    steps = [["x", *(f"x #{1 + (number * factor) % 9}" for number in range(14))] for factor in (2, 5)]
    (row,) = break_scores([("", steps[0], steps[1])], lexical=False, seconds=1e-9)
    assert row["ged_inexact"] == 1.0


def test_no_rows_give_no_scores() -> None:
    assert break_scores([], lexical=False) == []


@pytest.mark.parametrize(("seconds", "workers"), [(0.0, None), (-1.0, None), (1.0, 0)])
def test_unusable_settings_are_refused(seconds: float, workers: int | None) -> None:
    with pytest.raises(UserError, match="must be positive"):
        break_scores([], lexical=False, seconds=seconds, workers=workers)
