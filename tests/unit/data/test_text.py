"""Texts that are equal to a reader are equal here."""

from __future__ import annotations

import time
import unicodedata

import pytest

from qdsft.data.text import compose, language, main_script, normalise, question_hash


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Who  is\tit?", "who is it?"),
        ("서울은 어디?", unicodedata.normalize("NFD", "서울은 어디?")),
        ("ＡＢＣ？", "abc?"),
        ("Straße", "STRASSE"),
        (" x ", "x"),
    ],
)
def test_equal_to_a_reader(left: str, right: str) -> None:
    assert normalise(left) == normalise(right) and question_hash(left) == question_hash(right)


def test_different_questions_stay_different() -> None:
    assert question_hash("a b") != question_hash("ab")


def test_a_long_run_of_combining_marks_takes_linear_time() -> None:
    start = time.process_time()
    compose("NFKC", "a" + "\u0316\u0301" * 50_000)
    assert time.process_time() - start < 2
    assert compose("NFC", "e\u0301") == "é"


@pytest.mark.parametrize(
    ("text", "script", "code"),
    [
        ("Who is older?", "Latin script", "en"),
        ("서울은 어디인가요?", "Hangul", "ko"),
        ("Titanic은 언제 개봉했나요?", "Hangul", "ko"),
        ("BTS", "Latin script", "en"),
        ("12 + 3", "other", "other"),
    ],
)
def test_the_script_of_most_words(text: str, script: str, code: str) -> None:
    assert (main_script(text), language(text)) == (script, code)
