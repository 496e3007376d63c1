"""Near-duplicates: what is reported is exact, and nothing at the threshold is missed."""

from __future__ import annotations

import random
import time
import unicodedata

import pytest

from qdsft.data.checks.near_duplicates import THRESHOLD, HeldOut, Match, jaccard, trigrams
from qdsft.data.text import normalise

QUESTION = "Which mountains does the longest river of the Korean peninsula come from?"
KOREAN = "한반도에서 가장 긴 강은 어느 산맥에서 시작되어 어느 바다로 흘러가나요?"


def match(held_out: str, question: str) -> Match | None:
    index = HeldOut()
    for number in range(50):
        index.add(f"something else of the number {number * 7919}", f"e:{number}")
    index.add(normalise(held_out), "e:51")
    return index.match(normalise(question))


@pytest.mark.parametrize(
    ("held_out", "question"),
    [
        (KOREAN, unicodedata.normalize("NFD", KOREAN)),
        (QUESTION, "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in QUESTION)),
        (QUESTION, f"  {QUESTION.upper()} "),
    ],
)
def test_equal_but_for_form(held_out: str, question: str) -> None:
    assert match(held_out, question) == Match("e:51", 1.0, True)


@pytest.mark.parametrize(
    ("held_out", "question"),
    [
        (QUESTION, QUESTION.replace("mountains", "mountain")),
        (QUESTION, QUESTION.replace("Korean peninsula", "Koreanpeninsula")),
        (KOREAN, unicodedata.normalize("NFD", KOREAN.replace("가장 긴", "가장긴").replace("?", ""))),
        ("a", "A "),
    ],
)
def test_nearly_equal(held_out: str, question: str) -> None:
    found = match(held_out, question)
    assert found is not None and found.source == "e:51"
    assert found.similarity == jaccard(trigrams(normalise(held_out)), trigrams(normalise(question))) >= THRESHOLD


@pytest.mark.parametrize(
    ("held_out", "question"),
    [
        (QUESTION, "Which mountains does the shortest river of the Iberian peninsula come from?"),
        (KOREAN, "한반도에서 가장 높은 산은 무엇인가요?"),
        ("a", "b"),
        ("", "b"),
    ],
)
def test_not_near_enough(held_out: str, question: str) -> None:
    assert match(held_out, question) is None


def test_nothing_held_out() -> None:
    assert HeldOut().match("a") is None


def varied(seed: int) -> list[str]:
    """Questions of which some are edits of one another."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop가나다라마", k=rng.randint(2, 8))) for _ in range(300)]
    questions = [" ".join(rng.choices(words, k=12)) for _ in range(100)]
    for question in questions[:80]:
        edited = list(question)
        for _ in range(rng.randint(1, 6)):
            edited[rng.randrange(len(edited))] = rng.choice("xyz ")
        questions.append(normalise("".join(edited)))
    return questions


def test_the_same_pairs_as_comparing_all_with_all() -> None:
    questions = varied(3)
    index = HeldOut()
    for number, text in enumerate(questions[:100]):
        index.add(text, f"e:{number}")
    above = []
    for text in questions[100:]:
        found = index.match(text)
        best = max(jaccard(trigrams(text), trigrams(other)) for other in questions[:100])
        assert (found.similarity if found else None) == (best if best >= THRESHOLD else None)
        above.append(found is not None)
    assert 10 < sum(above) < 70


def test_data_from_one_template_takes_no_time_squared() -> None:
    questions = [f"what is the number of the {number:05d} house in the long street?" for number in range(4000)]
    index = HeldOut()
    for number, text in enumerate(questions):
        index.add(text, f"e:{number}")
    started = time.process_time()
    found = [index.match(text.replace("house", "home")) for text in questions]
    assert time.process_time() - started < 30
    assert sum(item is not None for item in found) > 2500
