"""English sentences of a few programs, in every phrasing, and the wording of steps."""

from __future__ import annotations

import pytest

from qdsft.data.synth.english import English
from qdsft.data.synth.programs import Count, Exceeds, Filter, Follow, Members, Named, Node, Same, Value
from qdsft.data.synth.sample import forms
from qdsft.data.synth.steps import Step, plan
from qdsft.data.synth.world import load_world

WORLD = load_world()
ENGLISH = English(WORLD)
HARBOR, BRIDGE = Named("Harbor"), Named("Bridge")


@pytest.mark.parametrize(
    ("program", "frame", "style", "question"),
    [
        (Value("born", Follow("director", HARBOR)), 0, 0, "In which year was the director of Harbor born?"),
        (Value("born", Follow("director", HARBOR)), 1, 1, "What is the birth year of the person who directed Harbor?"),
        (Follow("base", Follow("producer", HARBOR)), 0, 1, "Which city is the company that produced Harbor based in?"),
        (
            Filter(Members("cast_of", HARBOR), "born", True, 1930),
            2,
            0,
            "Can you list the people in the cast of Harbor who were born after 1930?",
        ),
        (Count(Members("rivers_in", Named("Toria"))), 0, 1, "How many rivers located in Toria are there?"),
        (Exceeds(HARBOR, BRIDGE, "minutes", True), 0, 0, "Is Harbor longer than Bridge?"),
        (
            Exceeds(Named("Pasel"), Named("Quint"), "population", False),
            0,
            0,
            "Does Pasel have fewer people than Quint?",
        ),
        (Same(HARBOR, BRIDGE, "director"), 0, 0, "Do Harbor and Bridge have the same director?"),
    ],
)
def test_questions(program: Node, frame: int, style: int, question: str) -> None:
    assert ENGLISH.question(program, frame, style) == question


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("follow", "director", ("Harbor",)), "Who directed Harbor?"),
        (Step("each_value", "born", (1,)), "In which year was each of #1 born?"),
        (
            Step("filter", "area", (1,), "country", False, 150_000),
            "Which of #1 cover less than 150,000 square kilometres?",
        ),
        (Step("top", "born", (1, 2), "person", False), "Which of #1 has the lowest number in #2?"),
        (Step("compare", "born", ("Ivo Lund", 1, 2, 3), "person"), "Who was born later, Ivo Lund (#2) or #1 (#3)?"),
        (Step("same", "", (1, 2)), "Are #1 and #2 the same?"),
    ],
)
def test_steps(step: Step, text: str) -> None:
    assert ENGLISH.step(step) == text


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no step 'dance'"):
        ENGLISH.step(Step("dance", "", ()))


def test_every_shape_is_a_clean_sentence() -> None:
    for name, form in forms(WORLD).items():
        for index in range(0, len(form), max(len(form) // 50, 1)):
            program, frame, style = form[index]
            for text in (ENGLISH.question(program, frame, style), *map(ENGLISH.step, plan(program, WORLD))):
                assert text[0].isupper() and text.endswith("?") and "  " not in text and "{" not in text, (name, text)
                assert "the the" not in text and " a the " not in text, (name, text)
