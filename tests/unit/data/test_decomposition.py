"""Rendering and parsing numbered steps, their references, and what makes a decomposition unusable."""

from __future__ import annotations

import random

import pytest

from qdsft.data.decomposition import Decomposition, without_numbers


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (["Who is A?"], "1. Who is A?"),
        (["Who is A?", "Is #1 old?"], "1. Who is A?\n2. Is #1 old?"),
        (
            ["한국의 수도는 어디인가요?", "#1의 인구는 몇 명인가요?"],
            "1. 한국의 수도는 어디인가요?\n2. #1의 인구는 몇 명인가요?",
        ),
        (["3. x", "1.", "2. 2. y"], "1. 3. x\n2. 1.\n3. 2. 2. y"),
        (["1.5 million?", "#1. and #2"], "1. 1.5 million?\n2. #1. and #2"),
        ([f"step {number}" for number in range(1, 13)], "\n".join(f"{n}. step {n}" for n in range(1, 13))),
        ([], ""),
    ],
)
def test_parsing_inverts_rendering(steps: list[str], text: str) -> None:
    decomposition = Decomposition(tuple(steps))
    assert decomposition.render() == text
    assert Decomposition.parse(text) == decomposition


def test_random_steps_come_back() -> None:
    chance = random.Random(5)
    alphabet = "ab12.#: ,?-*)(가나😀é'\""
    for _ in range(300):
        raw = ("".join(chance.choices(alphabet, k=chance.randint(1, 12))).strip() for _ in range(chance.randint(1, 12)))
        steps = tuple(step for step in raw if step)
        assert Decomposition.parse(Decomposition(steps).render()) == Decomposition(steps)


@pytest.mark.parametrize(
    ("text", "steps", "problems"),
    [
        ("", (), ("there are no steps",)),
        (" \n\t\n", (), ("there are no steps",)),
        ("1. a\n\n  2.   b  \n", ("a", "b"), ()),
        ("1. a\r\n2. b\r\n", ("a", "b"), ()),
        ("just text", ("just text",), ("line 'just text' is not numbered",)),
        ("Sure!\n1. a", ("Sure!", "a"), ("line 'Sure!' is not numbered", "step 1 stands where step 2 belongs")),
        ("1. a\n3. b", ("a", "b"), ("step 3 stands where step 2 belongs",)),
        ("2. a\n1. b", ("a", "b"), ("step 2 stands where step 1 belongs", "step 1 stands where step 2 belongs")),
        ("1. a\n1. b", ("a", "b"), ("step 1 stands where step 2 belongs",)),
        ("1) a\n- b", ("1) a", "- b"), ("line '1) a' is not numbered", "line '- b' is not numbered")),
        ("1.a", ("1.a",), ("line '1.a' is not numbered",)),
        ("1. \n2.", ("", ""), ("step 1 is empty", "step 2 is empty")),
        ("0. a", ("a",), ("step 0 stands where step 1 belongs",)),
        (
            "1. a\n2. #9",
            ("a", "#9"),
            ("step 2 refers to #9, but there are 2 steps",),
        ),
        ("x" * 100, ("x" * 100,), (f"line '{'x' * 40}' is not numbered",)),
        # int() refuses more than 4300 digits; a model that repeats itself writes them
        ("1" * 5000 + ". a", ("a",), (f"step {'1' * 10} stands where step 1 belongs",)),
        ("1. a\n2. #" + "1" * 5000, ("a", "#" + "1" * 5000), ("step 2 refers to #1000000000, but there are 2 steps",)),
        ("1. a\u20282. b", ("a\u20282. b",), ()),  # only CR and LF end a step, unlike splitlines()
        ("1. a\r2. b", ("a", "b"), ()),
    ],
)
def test_nothing_that_a_model_writes_is_lost(text: str, steps: tuple[str, ...], problems: tuple[str, ...]) -> None:
    decomposition = Decomposition.parse(text)
    assert decomposition.steps == steps
    assert decomposition.problems() == problems
    assert decomposition.is_valid == (not problems)


def test_parsing_never_raises() -> None:
    chance = random.Random(6)
    pieces = [
        "1",
        "2",
        ".",
        " ",
        "\n",
        "\r",
        "\t",
        "#",
        "a",
        "가",
        "\u2028",
        "\x1c",
        "\0",
        "٣",
        "²",
        "9" * 4400,
        "\ud800",
    ]
    for _ in range(300):
        decomposition = Decomposition.parse("".join(chance.choices(pieces, k=chance.randint(0, 15))))
        assert decomposition.is_valid == (decomposition.problems() == ())
        for problem in decomposition.problems():
            assert "\n" not in problem and len(problem) < 100


@pytest.mark.parametrize(
    ("steps", "problems"),
    [
        (("a", "b #1", "#1 and #2"), ()),
        (("a", "#1 #1"), ()),
        ((), ("there are no steps",)),
        (("a", " "), ("step 2 is empty",)),
        (("a", ""), ("step 2 is empty",)),
        (("#1",), ("step 1 refers to itself (#1)",)),
        (("a", "#2"), ("step 2 refers to itself (#2)",)),
        (("#2", "b"), ("step 1 refers forward to #2",)),
        (("a", "b", "#5"), ("step 3 refers to #5, but there are 3 steps",)),
        (("a", "#0"), ("step 2 refers to #0, but there are 2 steps",)),
        (("a\nb",), ("step 1 has a line break",)),
        (("a\n",), ("step 1 has a line break",)),
        (("a", "b\r\n"), ("step 2 has a line break",)),
        (("\n",), ("step 1 is empty", "step 1 has a line break")),
        (("a\rb",), ("step 1 has a line break",)),
        (("a\u2028b", "c\x85d"), ()),
        (("number # 1", "#a", "C#"), ()),
    ],
)
def test_problems(steps: tuple[str, ...], problems: tuple[str, ...]) -> None:
    assert Decomposition(steps).problems() == problems


def test_a_step_that_would_not_come_back_is_a_problem() -> None:
    for step in ("a\n", "\na", "a\nb", "a\rb", "a\r\nb", ""):
        steps = ("before", step, "after")
        assert Decomposition.parse(Decomposition(steps).render()).steps != steps or step == ""
        assert not Decomposition(steps).is_valid, repr(step)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\x1d", "\x1e"])
def test_only_cr_and_lf_end_a_step(character: str) -> None:
    steps = (f"a{character}b", f"2. {character}c", "#1?")
    assert Decomposition(steps).is_valid
    assert Decomposition.parse(Decomposition(steps).render()) == Decomposition(steps)


@pytest.mark.parametrize(
    "steps",
    [
        ["1. Who?", "2. When did #1?"],
        ["1) Who?", " 2)  When did #1?"],
        ["(1) Who?", "[2] When did #1?"],
        ["1.Who?", "2:When did #1?"],
        ["Step 1: Who?", "step 2. When did #1?"],
        ["Q1. Who?", "Q2. When did #1?"],
        ["① Who?", "②When did #1?"],
        ["１．Who?", "⒉ When did #1?"],
        ["1단계: Who?", "질문 2. When did #1?"],
        ["(0) Who?", "(1) When did #1?"],
    ],
)
def test_numbers_of_ones_own_are_recognised_and_removed(steps: list[str]) -> None:
    assert without_numbers(steps) == ("Who?", "When did #1?")


@pytest.mark.parametrize(
    "steps",
    [
        [],
        ["Who?", "When?"],
        ["1. Who?", "When did #1?"],
        ["1. Who?", "1. When?"],
        ["2. Who?", "3. When?"],
        ["0. Who?", "2. When?"],
        ["1.5 million of what?", "2.5 of what?"],
        ["1.FC Nürnberg was founded when?"],
        ["1990: what happened?"],
        ["1st of May?", "2nd?"],
        ["#1. a", "#2. b"],
    ],
)
def test_other_numbers_are_text(steps: list[str]) -> None:
    assert without_numbers(steps) is None


@pytest.mark.parametrize(
    ("steps", "edges"),
    [
        ((), ()),
        (("a", "b"), ()),
        (("a", "b #1", "#2 #1 #2"), ((1, 2), (1, 3), (2, 3))),
        (("#3", "#2", "#12"), ((2, 2), (3, 1), (12, 3))),
        (("#01", "#001"), ((1, 1), (1, 2))),
    ],
)
def test_edges(steps: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> None:
    assert Decomposition(steps).edges == edges
