"""The demo page: what it shows of an answer, as HTML and as text to copy."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from helpers.demo_page import DECOMPOSITION, FREE_TEXT, served, writes

from qdsft.data.decomposition import Decomposition
from qdsft.data.task import Task
from qdsft.deploy.demo.page import HEAD, WORDS, Model, answer_html, build_page, copies, partial_html, request_problem
from qdsft.errors import UserError
from qdsft.inference.generate import Answer

pytest.importorskip("gradio", reason="the extra demo is not installed")
gradio_client = pytest.importorskip("gradio_client")

QUESTION = "Who is older, Ada or Bo?"
GOOD = "1. How old is Ada?\n2. How old is Bo?\n3. Is #1 more than #2?"
HOSTILE = "1. <script>document.title='x'</script> **bold** #2\n2. <img src=x onerror=alert(1)> {{value}} ${alert(1)}"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ("1", []),
        ("1. Who", ["Who"]),
        ("1. Who?\n2", ["Who?"]),
        ("1. Who?\n2.", ["Who?"]),
        ("1. Who?\n2. Is #1", ["Who?", "Is <b>#1</b>"]),
        ("no list\nat all", ["no list", "at all"]),
    ],
)
def test_a_step_appears_once_it_has_begun(text: str, steps: list[str]) -> None:
    assert re.findall("<li>(.*?)</li>", partial_html(DECOMPOSITION, text)) == steps


def test_a_finished_answer_has_steps_and_graph() -> None:
    html = answer_html(DECOMPOSITION, "q <b>?", Answer("1. Who?\n2. Is #1 <i>?", True, 9), WORDS["en"])
    assert re.findall("<li>(.*?)</li>", html) == ["Who?", "Is <b>#1</b> &lt;i&gt;?"]
    assert html.count("<svg") == 1 and "step 2 uses #1" in html
    assert "warn" not in html and "<i>" not in html and "<b>?" not in html


def test_faults_and_a_cut_off_are_named_in_the_language_of_the_page() -> None:
    answer = Answer("1. Is #2 older?\n2. Who?", False, 9)
    english, korean = (answer_html(DECOMPOSITION, "q", answer, WORDS[name]) for name in ("en", "ko"))
    assert "reference to a later step: step 1 refers forward to #2" in english
    assert "Cut off after 9 tokens" in english
    assert "뒤의 단계를 참조함" in korean and "9토큰에서 잘렸습니다" in korean
    for kind, _ in Decomposition(("", "a\nb #2 #3", "#4"), ("x",)).faults():
        assert kind in WORDS["en"] and kind in WORDS["ko"]
    assert "no steps" in WORDS["en"] and next(Decomposition(()).faults())[0] == "no steps"


@pytest.mark.parametrize("task", [DECOMPOSITION, FREE_TEXT])
def test_model_output_is_shown_as_text(task: Task) -> None:
    for html in (
        partial_html(task, HOSTILE),
        answer_html(task, HOSTILE, Answer(HOSTILE, True, 9), WORDS["en"]),
    ):
        assert "<script" not in html and "<img" not in html
        assert "&lt;script&gt;" in html and "**bold**" in html


def test_an_apostrophe_is_not_taken_for_a_reference() -> None:
    assert '<li>Who is Ada\'s "x"?</li>' in partial_html(DECOMPOSITION, '1. Who is Ada\'s "x"?')


def test_copies_are_those_that_the_answer_allows() -> None:
    good = copies(DECOMPOSITION, QUESTION, GOOD)
    assert list(good) == ["json", "mermaid", "self-ask"]
    assert json.loads(good["json"])["sub_questions"] == ["How old is Ada?", "How old is Bo?", "Is #1 more than #2?"]
    assert "step1 --> step3" in good["mermaid"] and good["self-ask"].count("Follow up: ") == 3
    assert list(copies(DECOMPOSITION, QUESTION, HOSTILE)) == ["json"]
    assert copies(FREE_TEXT, "q", "abc") == {"json": '{"input": "q", "output": "abc"}'}


@pytest.mark.parametrize(
    ("question", "chosen", "word"),
    [
        ("Who?", [0, 1], None),
        ("", [0], "empty"),
        ("Who?", [], "empty"),
        ("Who?", [0, 0], "refused"),
        ("Who?", [1, 0, 1], "refused"),
        ("x" * 20_001, [0], "refused"),
    ],
)
def test_a_request_that_would_hold_the_queue_is_refused(question: str, chosen: list[int], word: str | None) -> None:
    assert request_problem(question, chosen) == word
    assert word is None or word in WORDS["ko"]


def test_both_languages_have_the_same_words() -> None:
    english, korean = WORDS["en"], WORDS["ko"]
    assert list(english) == list(korean)
    for name, text in english.items():
        assert re.findall(r"\{\w+", text) == re.findall(r"\{\w+", korean[name]), name
        assert korean[name].strip() and text.strip()


def test_the_page_names_no_other_host() -> None:
    page = build_page([writes("a", GOOD), writes("b", GOOD)], [QUESTION])
    config = json.dumps(page.get_config_file(), default=str)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(", HEAD)
    assert "fonts.googleapis" not in config and page.analytics_enabled is False
    [answer] = [fn for fn in page.config["dependencies"] if fn["api_name"] == "answer"]
    assert page.fns[answer["id"]].concurrency_limit in (1, "default")


def refuses(question: str) -> Any:
    raise UserError(f"cannot encode <b>{question}</b>")
    yield


def ask(port: int, question: str, chosen: list[int], language: str = "en") -> list[str]:
    """The updates of the page, in order."""
    client = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False)
    job = client.submit(question, chosen, language, api_name="/answer")
    job.result(timeout=60)
    return [str(output) for output in job.outputs()]


@pytest.mark.slow
def test_models_answer_one_after_the_other_as_they_write() -> None:
    models = writes("first", GOOD), Model("bad", DECOMPOSITION, refuses), writes("other <i>", GOOD, seconds=1)
    with served(*models) as (_, port):
        seen = ask(port, QUESTION, [0, 1, 2])
        assert len(seen) > 10
        begun = [next(i for i, text in enumerate(seen) if name in text) for name in ("first", "Error: ", "other &lt;")]
        assert begun == sorted(begun)
        assert "cannot encode &lt;b&gt;" in "".join(seen) and "tokens in" in seen[-1]
        assert [sum("<svg" in text for text in seen if name in text) for name in ("first", "other &lt;i&gt;")] == [1, 1]
        assert "토큰, " in ask(port, QUESTION, [0], "ko")[-1]
        for question, chosen in (("  ", [0]), (QUESTION, [])):
            assert "first" not in "".join(ask(port, question, chosen))
