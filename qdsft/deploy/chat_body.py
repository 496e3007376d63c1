"""Refuse the body of a chat request that asks a server for anything but an answer of its model."""

from __future__ import annotations

import json
from typing import Any, Protocol

KEYS = frozenset(
    {
        *("model", "messages", "stream", "max_tokens", "max_completion_tokens"),
        *("temperature", "top_p", "seed", "stop", "frequency_penalty", "response_format"),
    }
)
"""What a client may set. transformers also takes a chat template and a generation_config, which can hold the server."""
LENGTHS = ("max_tokens", "max_completion_tokens")
MOST_TOKENS = 4096
NUMBERS = {"temperature": (0.0, 2.0), "top_p": (0.001, 1.0), "frequency_penalty": (-0.9, 2.0), "seed": (0, 2**31 - 1)}
"""Key -> its lowest and highest value."""
MOST_CHARACTERS = 32_768
"""Characters of all messages. A prompt far beyond the model's positions would take the memory of the server."""
ROLES = frozenset({"system", "developer", "user", "assistant"})


class Rules(Protocol):
    """What a server answers."""

    def problem(self, request: dict[str, Any]) -> str | None:
        """Return why a request whose values are sound is refused; None if it may pass."""


def body_problem(body: bytes, rules: Rules | None = None) -> str | None:
    """Return why the body of a POST to /v1/chat/completions is refused, in one sentence; None if it may pass."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return "the body is not JSON; send an object with model and messages"
    if not isinstance(request, dict):
        return "the body is not a JSON object; send one with model and messages"
    if unknown := sorted(request.keys() - KEYS):
        return f"this server does not take {unknown[0][:40]!a}; leave it out"
    for key in LENGTHS:
        length = request.get(key)
        if length is not None and (type(length) is not int or not 1 <= length <= MOST_TOKENS):
            return f"{key} must be a whole number from 1 to {MOST_TOKENS}"
    if problem := _values_problem(request) or _messages_problem(request.get("messages")):
        return problem
    return rules.problem(request) if rules else None


def _values_problem(request: dict[str, Any]) -> str | None:
    for key, (low, high) in NUMBERS.items():
        value = request.get(key)
        kinds = (int,) if key == "seed" else (int, float)
        if value is not None and (type(value) not in kinds or not low <= value <= high):
            return f"{key} must be a {'whole ' * (key == 'seed')}number from {low:g} to {high:g}"
    if request.get("stream") not in (None, True, False):
        return "stream must be true or false"
    stop = request.get("stop")
    texts = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts) or len(texts) > 4:
        return "stop must be a text, or a list of at most 4"
    return None


def _messages_problem(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        return "messages must be a list of objects with role and content; `qdsft serve --request` prints them"
    texts = [_text(one.get("content")) for one in messages]
    if None in texts or not all(isinstance(one.get("role"), str) and one["role"] in ROLES for one in messages):
        return f"each message must have a text as content and one of the roles {', '.join(sorted(ROLES))}"
    if sum(len(text or "") for text in texts) > MOST_CHARACTERS:
        return f"the messages have over {MOST_CHARACTERS} characters; ask a shorter question"
    return None


def _text(content: Any) -> str | None:
    """Return the text of a message, which may be in parts; None if it is not text alone."""
    texts = []
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            return None
        texts.append(part["text"])
    return "".join(texts)
