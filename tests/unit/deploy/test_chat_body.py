"""A chat request may ask for an answer and for nothing that would hold the server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qdsft.deploy.chat_body import MOST_CHARACTERS, MOST_TOKENS, body_problem

ASKED: dict[str, Any] = {"model": "run", "messages": [{"role": "user", "content": "Who?"}]}


def problem(**changes: Any) -> str:
    return body_problem(json.dumps({**ASKED, **changes}).encode()) or ""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0, "max_tokens": MOST_TOKENS, "stream": True, "seed": 1, "stop": ["x"]},
        {"max_tokens": None, "max_completion_tokens": 1},
        {"temperature": 2.0, "top_p": 1, "frequency_penalty": -0.5, "stop": "x", "stream": False, "seed": None},
        {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "나이는?", "name": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
    ],
)
def test_requests_for_an_answer_pass(changes: dict[str, Any]) -> None:
    assert problem(**changes) == ""


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null", b'"x"', b"1"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert "send" in (body_problem(body) or "")


@pytest.mark.parametrize(
    "key", ["generation_config", "chat_template_kwargs", "tools", "logit_bias", "custom_generate", "\x1b[2J" * 99]
)
def test_no_other_key(key: str) -> None:
    said = problem(**{key: {"chat_template": "{% for i in range(10**9) %}{% endfor %}"}})
    assert said.startswith("this server does not take '") and "\x1b" not in said and len(said) < 250


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("length", [0, -1, MOST_TOKENS + 1, 10**30, 1.5, True, "9", [], {}])
def test_the_length_of_an_answer_is_bounded(key: str, length: Any) -> None:
    assert problem(**{key: length}) == f"{key} must be a whole number from 1 to {MOST_TOKENS}"


@pytest.mark.parametrize("key", ["temperature", "top_p", "frequency_penalty", "seed"])
@pytest.mark.parametrize("value", [-1, 2.5, 2**40, "1", True, [], {}])
def test_numbers_that_end_in_a_traceback_are_refused(key: str, value: Any) -> None:
    assert problem(**{key: value}).startswith(f"{key} must be a ")


@pytest.mark.parametrize("changes", [{"stop": 1}, {"stop": [1]}, {"stop": [""]}, {"stop": ["x"] * 5}, {"stream": "no"}])
def test_other_values_are_refused(changes: dict[str, Any]) -> None:
    assert problem(**changes).startswith(f"{next(iter(changes))} must be ")


def test_rules_judge_sound_requests_only() -> None:
    class Refuses:
        def problem(self, request: dict[str, Any]) -> str | None:
            return f"no answer to {request['messages'][0]['content']}"

    assert body_problem(json.dumps(ASKED).encode(), Refuses()) == "no answer to Who?"
    assert "role" in (body_problem(json.dumps({**ASKED, "messages": []}).encode(), Refuses()) or "")


IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
NO_ROLES: list[Any] = ["tool", "", 1, None, []]
NO_TEXTS: list[Any] = [None, 1, {}, [None], ["x"], [IMAGE], [{}]]


@pytest.mark.parametrize(
    "messages",
    [
        *(None, [], "x", {}, ["x"], [None], [{"role": "user"}], [{"content": "x"}]),
        *([{"role": role, "content": "x"}] for role in NO_ROLES),
        *([{"role": "user", "content": content}] for content in NO_TEXTS),
        [{"role": "user", "content": [{"type": "text", "text": 1}]}],
    ],
)
def test_messages_are_texts_with_roles(messages: Any) -> None:
    assert "message" in problem(messages=messages)


def test_a_prompt_far_beyond_any_model_is_refused() -> None:
    half = {"role": "user", "content": "x" * (MOST_CHARACTERS // 2)}
    assert problem(messages=[half, half]) == ""
    assert "ask a shorter question" in problem(messages=[half, half, {"role": "user", "content": "x"}])
