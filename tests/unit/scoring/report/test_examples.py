"""The section that shows the worst and the median rows."""

from __future__ import annotations

import re

from helpers.report_inputs import prediction, predictions
from helpers.svg_checks import Page, drawings

from qdsft.scoring.report.examples import LONGEST_TEXT, MEDIAN, WORST, examples_section


def test_the_worst_and_the_median_rows_are_shown_in_their_order() -> None:
    rows = predictions(100, spoilt=1.0)
    html = examples_section(rows)
    ranks = [int(rank) for rank in re.findall(r'class="note">(\d+) of 100', html)]
    assert ranks == [*range(1, WORST + 1), *range(49, 49 + MEDIAN)]
    shown = [rows[int(index) - 1].scores for index in re.findall(r"of 100 · row (\d+)", html)]
    order = sorted((row.scores["sari"] or 0, row.scores["step_f1"] or 0) for row in rows)
    assert [(one["sari"], one["step_f1"]) for one in shown] == [order[rank - 1] for rank in ranks]
    assert len(drawings(html)) == 2 * (WORST + MEDIAN)


def test_a_row_without_a_score_is_not_the_worst() -> None:
    rows = [prediction("unscored?", ["a"], ["b"]), prediction("scored?", ["a"], ["b"])]
    rows[0] = rows[0].model_copy(update={"scores": {"sari": None}})
    text = Page(examples_section(rows)).text
    assert text.index("row 2") < text.index("row 1")


def test_steps_of_one_side_alone_are_marked() -> None:
    html = examples_section([prediction("q?", ["Who  wrote it?", "When?"], ["who wrote it?", "Where?"])])
    marked = re.findall(r'class="box marked"><title>(.*?)</title>', html)
    assert marked == ["2. When?", "2. Where?"]


def test_long_texts_are_cut_with_their_length() -> None:
    html = examples_section([prediction("q" * 1000, ["a"], ["b" * (LONGEST_TEXT + 1)])])
    assert "… 400 more characters" in html and "… 1 more characters" in html


def test_rows_of_free_text_have_no_graph() -> None:
    row = prediction("q?", ["a"], ["b"]).model_copy(update={"gold": "one <b>", "sub_questions": None, "text": "two"})
    html = examples_section([row])
    assert drawings(html) == [] and re.findall(r"<bdi[^>]*>(.*?)</bdi>", html) == ["q?", "one &lt;b&gt;", "two"]


def test_no_rows_make_no_section() -> None:
    assert examples_section([]) == ""
