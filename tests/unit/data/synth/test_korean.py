"""Korean sentences of a few programs, in every phrasing, and the wording of steps."""

from __future__ import annotations

import re

import pytest

from qdsft.data.synth.korean import Korean
from qdsft.data.synth.particles import attach
from qdsft.data.synth.programs import Count, Exceeds, Filter, Follow, Members, Named, Node, Same, Value
from qdsft.data.synth.sample import forms
from qdsft.data.synth.steps import Step, plan
from qdsft.data.synth.world import load_world

WORLD = load_world()
KOREAN = Korean(WORLD)
HARBOR, BRIDGE = Named("Harbor"), Named("Bridge")


@pytest.mark.parametrize(
    ("program", "frame", "style", "question"),
    [
        (Value("born", Follow("director", HARBOR)), 0, 0, "'항구'의 감독은 몇 년에 태어났나요?"),
        (Value("born", Follow("director", HARBOR)), 1, 1, "'항구'를 감독한 사람이 몇 년에 태어났는지 알려 주세요."),
        (Follow("base", Follow("producer", HARBOR)), 0, 0, "'항구'의 제작사의 본사가 있는 도시는 어디인가요?"),
        (Count(Members("rivers_in", Named("Toria"))), 0, 0, "토리아에 있는 강은 모두 몇 개인가요?"),
        (
            Filter(Members("cast_of", HARBOR), "born", True, 1930),
            1,
            0,
            "'항구'에 출연한 사람 중에서 1930년보다 늦게 태어난 사람을 모두 알려 주세요.",
        ),
        (Exceeds(HARBOR, BRIDGE, "minutes", True), 0, 0, "'항구'는 '다리'보다 상영 시간이 긴가요?"),
        (Same(HARBOR, BRIDGE, "director"), 0, 0, "'항구'와 '다리'는 감독이 같은가요?"),
    ],
)
def test_questions(program: Node, frame: int, style: int, question: str) -> None:
    assert KOREAN.question(program, frame, style) == question


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("follow", "director", ("Harbor",)), "'항구'의 감독은 누구인가요?"),
        (Step("difference", "", (1, 2)), "#1과 #2의 차이는 얼마인가요?"),
        (Step("same", "", (2, 1)), "#2와 #1은 같은가요?"),
        (Step("count", "", (1,), "film"), "#1에 속한 영화는 모두 몇 편인가요?"),
        (Step("each_value", "born", (1,)), "#1 각각은 몇 년에 태어났나요?"),
        (
            Step("filter", "population", (1,), "city", True, 300_000),
            "#1 중에서 인구가 30만 명보다 많은 도시는 어디인가요?",
        ),
    ],
)
def test_steps(step: Step, text: str) -> None:
    assert KOREAN.step(step) == text


def test_names_are_korean_and_titles_are_quoted_in_sentences_only() -> None:
    assert KOREAN.name("Harbor") == "항구"
    assert "'항구'" in KOREAN.step(Step("follow", "director", ("Harbor",)))


def test_every_shape_is_a_clean_sentence_with_fitting_particles() -> None:
    references = re.compile(r"#(\d)(은|는|이|가|을|를|과|와)(?= )")
    for name, form in forms(WORLD).items():
        for index in range(0, len(form), max(len(form) // 50, 1)):
            program, frame, style = form[index]
            for text in (KOREAN.question(program, frame, style), *map(KOREAN.step, plan(program, WORLD))):
                assert text.endswith(("?", ".")) and "  " not in text and "{" not in text, (name, text)
                assert not re.search("[A-Za-z]", text), (name, text)
                for number, particle in references.findall(text):
                    pairs = {"는": "은", "가": "이", "를": "을", "와": "과"}
                    assert attach(f"#{number}", pairs.get(particle, particle)) == f"#{number}{particle}", (name, text)
