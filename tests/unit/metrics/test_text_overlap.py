"""Exact match, SARI and chrF: values worked out by hand, and BREAK's official evaluator row by row."""

from __future__ import annotations

import csv
import json

import pytest
from helpers.paths import TEST_DATA

from qdsft.data.formats.break_csv import break_steps
from qdsft.metrics.text_overlap import chrf, exact_match, same_words, sari, step_count_accuracy, string_form

OFFICIAL = TEST_DATA / "break_official_99"

QUESTION = "How many people work for the company that Ada Lovelace founded?"
GOLD = (
    "Which company did Ada Lovelace found?",
    "Who works for #1?",
    "How many are #2?",
)


def test_string_form_marks_references_and_joins_steps() -> None:
    assert string_form(["x", "#1 and #12", "#3?"]) == "x @@SEP@@ @@1@@ and @@12@@ @@SEP@@ @@3@@?"


def test_string_form_replaces_double_spaces_once_and_strips() -> None:
    assert string_form([" a  b", "a   b ", "a    b"]) == "a b @@SEP@@ a  b @@SEP@@ a  b"


def test_string_form_of_nothing_is_empty() -> None:
    assert string_form([]) == ""
    assert string_form(["x", ""]) == "x @@SEP@@ "


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["cubes", "number of #1"], 1.0),
        (["CUBES", "Number of #1"], 1.0),
        ([" cubes ", "number  of #1"], 1.0),
        (["cubes", "the number of #1"], 0.0),
        (["cubes", "number of #1."], 0.0),
        (["cubes", "number of #2"], 0.0),
        (["number of #1", "cubes"], 0.0),
        (["cubes"], 0.0),
        ([], 0.0),
    ],
)
def test_exact_match(steps: list[str], expected: float) -> None:
    assert exact_match(steps, ["cubes", "number of #1"]) == expected


def test_sari_by_hand_of_a_missing_word() -> None:
    # S = question = a b; P = b; T = b c.  (precision, recall) -> F1; nothing to select counts as 1.
    #        keep                        add                             delete
    # n = 1  S&P {b}, S&T {b}     -> 1   P-S {} (1), T-S {c} (0)  -> 0   S-P {a}, not in T  -> 1
    # n = 2  S&P {}, S&T {}       -> 1   P-S {} (1), T-S {bc} (0) -> 0   S-P {ab}, not in T -> 1
    # n = 3 and 4: no n-grams at all -> 1, 1, 1
    # SARI = (4/4 + 2/4 + 4/4) / 3 = 5/6
    assert sari("a b", ["b"], ["b c"]) == pytest.approx(5 / 6, abs=1e-12)


def test_sari_by_hand_of_a_wrong_deletion() -> None:
    # S = a b; P = a; T = a b.
    #        keep                               add                    delete
    # n = 1  S&P {a}, S&T {a,b}: (1, 1/2) -> 2/3  P-S {}, T-S {} -> 1  S-P {b}, in T  -> 0
    # n = 2  S&P {}, S&T {ab}: (1, 0)     -> 0    P-S {}, T-S {} -> 1  S-P {ab}, in T -> 0
    # n = 3 and 4: -> 1, 1, 1
    # SARI = ((2/3 + 0 + 2)/4 + 4/4 + 2/4) / 3 = (2/3 + 1 + 1/2) / 3 = 13/18
    assert sari("a b", ["a"], ["a b"]) == pytest.approx(13 / 18, abs=1e-12)


def test_sari_by_hand_with_steps_and_references() -> None:
    # S = how old is x; P = x | how old is @1; T = x | age of @1   (| for @@SEP@@, @1 for @@1@@)
    # n = 1  keep  S&P {how,old,is,x}, S&T {x}: (1/4, 1)                           -> 2/5
    #        add   P-S {|,@1}, T-S {|,age,of,@1}: (1, 1/2)                         -> 2/3
    #        del   S-P {}                                                          -> 1
    # n = 2  keep  S&P {how old, old is}, none of them in T                        -> 0
    #        add   P-S {x |, | how, is @1}, T-S {x |, | age, age of, of @1}: (1/3, 1/4) -> 2/7
    #        del   S-P {is x}, not in T                                            -> 1
    # n = 3  keep  S&P {how old is}, not in T                                      -> 0
    #        add   three n-grams on either side, none shared                       -> 0
    #        del   S-P {old is x}, not in T                                        -> 1
    # n = 4  keep  S&P {}, S&T {}                                                  -> 1
    #        add   three against two, none shared                                  -> 0
    #        del   S-P {how old is x}, not in T                                    -> 1
    # SARI = ((2/5 + 0 + 0 + 1)/4 + (2/3 + 2/7)/4 + 1) / 3 = (7/20 + 5/21 + 1) / 3
    value = sari("how old is x", ["x", "how old is #1"], ["x", "age of #1"])
    assert value == pytest.approx((7 / 20 + 5 / 21 + 1) / 3, abs=1e-12)


def test_sari_counts_an_ngram_once_however_often_it_occurs() -> None:
    # P holds a twice; as sets S = P1 = T = {a}. n = 1: 1, 1, 1. n = 2: S {}, P {aa}, T {}:
    # keep 1, add (0, 1) -> 0, delete 1. n = 3 and 4: 1, 1, 1.
    assert sari("a", ["a a"], ["a"]) == pytest.approx((1 + 3 / 4 + 1) / 3, abs=1e-12)


def test_sari_keeps_the_empty_token_of_a_double_space_in_the_question() -> None:
    # S = a, "", b. n = 1: all kept and added 1; S-P {""}, not in T -> 1.
    # n = 2: S {a "", "" b}, P = T {ab}; n = 3: S {a "" b}; everything right -> 1. Now P = a:
    # n = 1 keep (1, 1/2) -> 2/3, add 1, del {"", b}: 1/2; n = 2 keep 1, add (1, 0) -> 0, del 1;
    # n = 3 keep 1, add 1, del 1; n = 4: 1, 1, 1.
    assert sari("a  b", ["a b"], ["a b"]) == 1.0
    expected = ((2 / 3 + 3) / 4 + 3 / 4 + (1 / 2 + 3) / 4) / 3
    assert sari("a  b", ["a"], ["a b"]) == pytest.approx(expected, abs=1e-12)


def test_step_count_accuracy() -> None:
    assert step_count_accuracy(["a", "b"], ["c", "d"]) == 1.0
    assert step_count_accuracy(["a"], ["c", "d"]) == 0.0


def test_sari_ranks_faults_by_how_much_they_spoil() -> None:
    one_reference, copied = (sari(QUESTION, steps, GOLD) for steps in ((*GOLD[:2], "How many are #1?"), (QUESTION,)))
    assert copied < 0.5 < 0.8 < one_reference < 1


def test_chrf_by_hand() -> None:
    # sacreBLEU: white space removed; gold abc: a, b, c; ab, bc; abc. abd: two of three, one of two, none of one.
    # F2 = P = R = 2/3, 1/2, 0 (numbers of n-grams agree); effective order 3.
    assert chrf("a bd", "ab c") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-12)
    assert chrf("", "abc") == 0.0


def official_rows() -> list[tuple[dict[str, str], list[str], list[str]]]:
    """Recorded result, gold steps and predicted steps of each of the 99 rows."""
    with (OFFICIAL / "results_full.tsv").open(encoding="utf-8", newline="") as file:
        results = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with (OFFICIAL / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = list(csv.DictReader(file))
    with (OFFICIAL / "predictions.csv").open(encoding="utf-8", newline="") as file:
        predictions = list(csv.DictReader(file))
    assert [row["id"] for row in results] == [row["question_id"] for row in labels]
    assert [row["question"] for row in results] == [row["question_text"] for row in labels]
    return [
        (result, break_steps(label["decomposition"]), break_steps(prediction["decomposition"]))
        for result, label, prediction in zip(results, labels, predictions, strict=True)
    ]


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"BREAK's recorded official results are not in {OFFICIAL}")
def test_every_row_equals_the_official_evaluator() -> None:
    rows = official_rows()
    recorded = json.loads((OFFICIAL / "metrics.json").read_text(encoding="utf-8"))
    assert len(rows) == 99
    exact, similar = [], []
    for result, gold, steps in rows:
        assert string_form(gold) == result["gold"], result["id"]
        assert string_form(steps) == result["prediction"], result["id"]
        exact.append(exact_match(steps, gold))
        similar.append(sari(result["question"], steps, gold))
        assert exact[-1] == {"True": 1.0, "False": 0.0}[result["exact_match"]], result["id"]
        assert similar[-1] == pytest.approx(float(result["sari"]), rel=0, abs=1e-9), result["id"]
    assert sum(exact) / 99 == pytest.approx(recorded["exact_match"], rel=0, abs=1e-9)
    assert sum(similar) / 99 == pytest.approx(recorded["sari"], rel=0, abs=1e-9)


def test_same_words_ignores_white_space_only() -> None:
    assert same_words(" a\n b ", "a b") == 1.0
    assert same_words("A b", "a b") == same_words("ab", "a b") == 0.0
