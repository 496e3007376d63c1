"""What the grammar lets through has no structural fault, and what `render` writes is let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdsft.data.decomposition import Decomposition
from qdsft.inference.grammar import COMMON_TEXT, MAX_STEPS, completion_pattern

llguidance = pytest.importorskip("llguidance")

BYTES = llguidance.LLTokenizer("byte", slices=[COMMON_TEXT])


def matches(text: str, lead: str = "", tail: str = "") -> bool:
    grammar = llguidance.LLMatcher.grammar_from_regex(completion_pattern(lead, tail))
    matcher = llguidance.LLMatcher(BYTES, grammar)
    tokens = list(text.encode("utf-8"))
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


# Whatever separates, counts or refers, in several scripts, so that short texts meet every rule.
NASTY = st.text(alphabet="12 9#.\n\t\r٣３²\u2028\u2029\x85\x1c\x00\u00a0\u3000\u200ba한", max_size=24)
STEP = st.text(alphabet="12#. ٣³a한?\u00a0", min_size=1, max_size=8)


@given(NASTY.map(lambda text: f"1. {text}"))
def test_whatever_matches_is_valid(text: str) -> None:
    if matches(text):
        decomposition = Decomposition.parse(text)
        assert decomposition.problems() == ()
        assert decomposition.render() == "\n".join(line.strip() for line in text.split("\n"))


@given(st.lists(STEP, min_size=1, max_size=4))
def test_whatever_is_valid_and_rendered_matches(steps: list[str]) -> None:
    decomposition = Decomposition(tuple(step.strip() for step in steps))
    odd = any(
        f"#{digit}" in step for step in decomposition.steps for digit in "٣３"
    )  # references, but in no script of ours
    if decomposition.is_valid and not odd:
        assert matches(decomposition.render())
    elif not decomposition.is_valid:
        assert not matches(decomposition.render())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. a", True),
        ("1. a\n2. #1", True),
        ("1. a\n2. ##1", True),
        ("1. a\n2. #1#1 x #", True),
        ("1. C# and #hashtag", True),
        ("1. 수도는?\n2. #1의 인구는?", True),
        ("", False),
        ("1. ", False),
        ("1.  a", False),
        ("1. #1", False),
        ("1. #0", False),
        ("1. a\n2. #2", False),
        ("1. a\n2. #3", False),
        ("1. a\n2. #12", False),
        ("1. a\n2. #1２", False),
        ("1. a\n2. #٣", False),
        ("1. a\n3. b", False),
        ("1. a\n2. ", False),
        ("1. a\n", False),
        ("1. a\n\n2. b", False),
        ("1. a\rb", False),
        ("1. a\u2028b", False),
        ("a", False),
    ],
)
def test_examples(text: str, expected: bool) -> None:
    assert matches(text) is expected


def test_the_last_step_may_refer_to_all_before_it() -> None:
    steps = [f"step {n}" for n in range(1, MAX_STEPS)]
    references = " ".join(f"#{n}" for n in range(1, MAX_STEPS))
    assert matches(Decomposition((*steps, references)).render())
    assert not matches(Decomposition((*steps, references, "one too many")).render())
    assert not matches(Decomposition((*steps, f"{references} #{MAX_STEPS}")).render())


def test_text_of_the_template_around_the_answer() -> None:
    assert matches(" 1. a\n2. b\n", " ", "\n") and matches(" 1. a\n2. b", " ", "\n")
    assert not matches("1. a\n", " ", "\n")
    assert not matches(" 1. a\n\n", " ", "\n")
