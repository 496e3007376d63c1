"""Steps that can be asked alone: no reference remains, in English and in Korean."""

from __future__ import annotations

import random

import pytest

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.references import LONGEST_STEP, fill_references, without_references
from qdsft.errors import UserError


def alone(*steps: str, answers: tuple[str | None, ...] = ()) -> str:
    """The last step on its own."""
    return without_references(Decomposition(steps), answers)[-1]


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        (["Who wrote it?", "Where was #1 born?"], "Where was the answer to “Who wrote it?” born?"),
        (["Who?", "Is #1 A?", "Is #2 B?"], "Is the answer to “Is the answer to “Who?” A?” B?"),
        (
            ["A?", "B?", "Is #2 above #1 or #2?"],
            "Is the answer to “B?” above the answer to “A?” or the answer to “B?”?",
        ),
        (["when is dusk", "flights before #1"], "flights before the answer to “when is dusk”"),
        (["flights", "#1 from denver", "number of #2"], "number of flights from denver"),
        (["Will Smith films", "#1 of 1996"], "Will Smith films of 1996"),
        (["Mount Ida >> country", "#1 >> capital"], "Mount Ida >> country >> capital"),
        (["누가 썼나요?", "#1의 고향은?"], "“누가 썼나요?”의 답의 고향은?"),
        (["한국의 수도는 어디인가", "#1의 인구"], "“한국의 수도는 어디인가”의 답의 인구"),
        (["한국의 수도", "#1의 인구는?"], "한국의 수도의 인구는?"),
        (["Who wrote 태백산맥?", "Where was #1 born?"], "Where was the answer to “Who wrote 태백산맥?” born?"),
        (["Who wrote it?", "#1의 고향은?"], "“Who wrote it?”의 답의 고향은?"),
        (["누구?", "#1?"], "“누구?”의 답?"),
        (["Who?", "#1?"], "the answer to “Who?”?"),
    ],
)
def test_a_reference_becomes_what_it_stands_for(steps: list[str], last: str) -> None:
    assert alone(*steps) == last


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [
        ("누구?", "#1는 #1가 #1를 #1와 #1로 #1나", "{0}은 {0}이 {0}을 {0}과 {0}으로 {0}이나"),
        ("누구?", "#1은 #1이 #1을 #1과 #1으로 #1이나", "{0}은 {0}이 {0}을 {0}과 {0}으로 {0}이나"),
        ("누구?", "#1라는 #1로부터 #1와의 #1에서 #1이었다", "{0}이라는 {0}으로부터 {0}과의 {0}에서 {0}이었다"),
        ("서울", "#1는 #1로 #1와", "서울은 서울로 서울과"),
        ("제주도", "#1은 #1으로 #1과 #1이", "제주도는 제주도로 제주도와 제주도가"),
        ("NASA", "#1은 크다", "NASA은 크다"),
        ("누구?", "#1가지 #1나라", "{0}가지 {0}나라"),
    ],
)
def test_particles_follow_the_sound_before_them(first: str, step: str, expected: str) -> None:
    assert alone(first, step) == expected.format("“누구?”의 답")


def test_known_answers_stand_in_the_place_of_references() -> None:
    steps = ("산 이름?", "#1를 아는가?", "#2는 #1는?")
    assert without_references(Decomposition(steps), ("한라산", None)) == (
        "산 이름?",
        "한라산을 아는가?",
        "“한라산을 아는가?”의 답은 한라산은?",
    )


def test_no_reference_remains_in_any_valid_decomposition() -> None:
    choose = random.Random(0)
    words = ["Who", "is", "#", "강은", "?", "number", "of", "“x”", "답"]
    for _ in range(300):
        steps = []
        for number in range(choose.randint(1, 7)):
            references = [f"#{choose.randint(1, number)}{choose.choice(['', '는', '가', ',', 'st'])}"] if number else []
            parts = choose.choices(words, k=3) + references
            choose.shuffle(parts)
            steps.append(" ".join(parts))
        made = without_references(Decomposition(tuple(steps)))
        assert len(made) == len(steps)
        assert not [step for step in made if REFERENCE.search(step)]
        for before, after in zip(steps, made, strict=True):
            assert before == after or REFERENCE.search(before)


def test_exponential_growth_is_refused() -> None:
    steps = ("Who is it?", *(f"Is #{number} #{number}?" for number in range(1, 60)))
    with pytest.raises(UserError, match=f"^step 9 would have over {LONGEST_STEP} characters once its references"):
        alone(*steps)


@pytest.mark.parametrize("steps", [("#2?", "a"), ("#1",), ("#3",), ()])
def test_invalid_decompositions_are_refused(steps: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"; references cannot be replaced$"):
        without_references(Decomposition(steps))


@pytest.mark.parametrize(
    ("step", "filled"),
    [
        ("Where was #1 born?", "Where was Ada born?"),
        ("Is #2 above #1?", "Is above Ada?"),
        ("#1의 고향은?", "Ada의 고향은?"),
        ("#3를 쓴 사람은?", "태백산맥을 쓴 사람은?"),
        ("#2를 쓴 사람은?", "쓴 사람은?"),
        ("#99999999999999999999 #0 #4", ""),
    ],
)
def test_references_are_filled_or_removed(step: str, filled: str) -> None:
    assert fill_references(step, {1: "Ada", 3: "태백산맥", 4: ""}) == filled
