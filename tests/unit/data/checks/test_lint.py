"""Each warning has a row that gives it and a near miss that does not."""

from __future__ import annotations

import unicodedata

import pytest

from qdsft.data.checks import lint
from qdsft.data.text import main_script, normalise, question_hash

Q = "Is the river of Seoul longer than the Thames?"
KO = "서울의 강은 템스강보다 긴가요?"


def found(question: str, *steps: str) -> dict[str, str]:
    """Kind -> message of all checks."""
    texts = lint.Texts.of(question, steps)
    return {kind: message for kind, check in lint.CHECKS.items() if (message := check(texts))}


@pytest.mark.parametrize(
    ("kind", "question", "steps", "part"),
    [
        ("one step only", Q, ["Which river?"], "one step"),
        ("step repeats the question", Q, ["A?", "is the  RIVER of Ｓeoul longer than the Thames?"], "step 2 repeats"),
        ("step repeats the question", KO, [unicodedata.normalize("NFD", KO), "#1?"], "step 1 repeats"),
        ("repeated step", Q, ["Which river?", "B?", "which  river?"], "step 3 repeats step 1"),
        ("unused step", Q, ["A?", "B?", "C?", "Is #2 so?"], "step 1, 3;"),
        ("two questions in one step", Q, ["Which river is it? How long is it?", "#1?"], "step 1 asks"),
        ("two questions in one step", Q, ["A?", "which river is #1? what length has it?"], "step 2 asks"),
        ("two questions in one step", KO, ["어느 강인가요? 얼마나 긴가요?", "#1?"], "step 1 asks"),
        ("two questions in one step", KO, ["어느 강인가요？얼마나 긴가요？", "#1?"], "step 1 asks"),
        ("another language", KO, ["Which river flows through Seoul?", "#1은 긴가요?"], "step 1 is in Latin script"),
        ("another language", Q, ["A?", "#1의 길이는 얼마인가요?"], "step 2 is in Hangul"),
        ("another language", "Taylor Swift의 Shake It Off는 언제 나왔나요?", ["When was it released?", "#1?"], "Latin"),
        ("lost character", "Is caf\ufffd here?", ["A?", "#1 \ufffd?"], "question, step 2"),
        ("special token", Q, ["A?</s>", "#1?"], "'</s>'"),
        ("special token", Q, ["A?", "#1? <|im_end|>"], "im_end"),
        ("special token", KO, ["[INST]?", "#1?"], "INST"),
        ("special token", Q, ["A [|endofturn|]?", "#1?"], "endofturn"),
        ("special token", "What does <start_of_turn> do?", ["A?", "#1?"], "start_of_turn"),
        ("special token", Q, ["<\uff5cend\u2581of\u2581sentence\uff5c>", "#1?"], "sentence"),
        ("special token", Q, ["<<SYS>> A?", "#1?"], "SYS"),
    ],
)
def test_a_row_that_gives_a_warning(kind: str, question: str, steps: list[str], part: str) -> None:
    assert part in found(question, *steps)[kind]


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        (Q, ["Which river?", "How long is #1?"]),
        (Q, ["Is the river of Seoul longer?", "Is #1 so?"]),
        (Q, ["Which river is in #2?", "Which river is in #1?"]),
        (Q, ["A?", "B?", "C?"]),  # no references at all: that is a style
        (Q, ["A?", "B?", "Are #1 and #02 one?"]),
        (Q, ['Who wrote "Who\'s Afraid of Virginia Woolf?" and when?', "Is #1 alive?"]),
        (Q, ["Who wrote 'Where Is It?' Where is it?", "Is #1 alive?"]),
        (Q, ["When did Who Wants to Be a Millionaire? premiere?", "Is #1 long ago?"]),
        (Q, ["Is it tangible??", "Is #1 so?"]),
        (Q, ["1. FC Köln plays where?", "How far is #1?"]),
        (Q, ["1.5 km from where?", "2.5 km from #1?"]),
        (Q, ["2. Bundesliga has which clubs?", "1. FC Köln and #1?"]),
        (Q, ["Which river (the Han?) is it?", "#1 > 2?"]),
        (Q, ["Which river is <b>long</b>?", "Is #1 < 5 [1] or > 3 |x|?"]),
        (KO, ["「누구인가?」는 누가 썼나요?", "#1은?"]),
        (KO, ["#1 > #2?", "Taylor Swift?"]),
        (KO, ["한강의 길이는?", "Han River, Seoul?"]),
        (KO, ["iPhone 15 Pro의 무게는?", "#1 kg?"]),
        ("iPhone app store에서 1위는?", ["iphone app store?", "#1?"]),
        ("Who directed 기생충 and 올드보이?", ["Who directed 기생충?", "Who directed 올드보이?", "기생충 올드보이?"]),
        ("Кто это?", ["Who is it there?", "누구 인가요?"]),
        (Q, ["Which river\u2026?", "Is #1 so?"]),
    ],
)
def test_a_near_miss_gives_none(question: str, steps: list[str]) -> None:
    assert found(question, *steps) == {}


def test_a_step_of_brackets_takes_no_time_squared() -> None:
    assert found(Q, "(" * 200_000 + "? A?", "#1?") == {
        "two questions in one step": "step 1 asks two questions; make them two steps"
    }


def test_repeats_name_the_first_row() -> None:
    repeats = lint.Repeats()
    assert repeats.add("q", "a", "d:b.jsonl:1") is None
    assert repeats.add("r", "a", "d:b.jsonl:2") is None
    assert repeats.add("q", "a", "c.jsonl:7") == (
        "question repeated",
        "d:b.jsonl:1 has the same question and answer; remove one of them",
    )
    assert repeats.add("q", "b", "c.jsonl:8") == (
        "same question, other answer",
        "d:b.jsonl:1 has another answer to the same question; keep the better one",
    )
    assert repeats.add("r", "b", "c.jsonl:123456789") is not None


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (Q, "Latin script"),
        (KO, "Hangul"),
        (unicodedata.normalize("NFD", KO), "Hangul"),
        ("Taylor Swift의 Shake It Off는 언제 나왔나요?", "Hangul"),
        ("when was 세종대왕 born, and where?", "Latin script"),
        ("PARIS?", "Latin script"),
        ("#1 > #2?", "other"),
        ("Кто это?", "other"),
        ("", "other"),
    ],
)
def test_main_script(text: str, script: str) -> None:
    assert main_script(text) == script


def test_differences_that_do_not_distinguish_questions() -> None:
    same = ["Is ＡＢ  한강?", " is ab\t한강? ", unicodedata.normalize("NFD", "is ab 한강?"), "IS AB 한강？"]
    assert {normalise(text) for text in same} == {"is ab 한강?"}
    assert len({question_hash(text) for text in same}) == 1
    assert normalise("IS  AB?") == "is ab?"
    assert question_hash("is abc 한강?") != question_hash("is ab 한강?")


@pytest.mark.parametrize("character", map(chr, range(128)))
def test_the_quick_way_of_normalising_gives_the_same(character: str) -> None:
    for text in (f"A{character}b", f" A {character}{character}b", character):
        assert normalise(text) == " ".join(unicodedata.normalize("NFKC", text).casefold().split())
