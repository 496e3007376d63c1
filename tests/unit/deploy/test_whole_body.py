"""A request reaches a server when its whole body is there, and not before."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from qdsft.deploy.whole_body import BODY, WholeBody

Passed = list[tuple[bytes, bytes]]
"""What the application received: the body, and the one in the scope."""


def ask(*messages: dict[str, Any], method: str = "POST", kind: str = "http") -> tuple[list[Any], Passed]:
    """Return what a client of these messages was sent, and what was passed on; after them the client says nothing."""
    sent: list[Any] = []
    passed: Passed = []
    pending = list(messages)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(((await receive())["body"] if method == "POST" else b"", scope.get(BODY, b"")))

    async def receive() -> Any:
        return pending.pop(0) if pending else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    def judge(body: bytes) -> str | None:
        return "it is bad; send a good one" if body == b"bad" else None

    whole = WholeBody(app, seconds=0.05, most_bytes=10, judge=judge)
    asyncio.run(whole({"type": kind, "method": method}, receive, send))
    return sent, passed


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_whole_body_is_passed_on_at_once() -> None:
    assert ask(part(b"abc", more=True), part(b"de", more=False)) == ([], [(b"abcde", b"abcde")])
    assert ask(part(b"", more=False)) == ([], [(b"", b"")])


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_other_requests_are_passed_on(method: str) -> None:
    assert ask(method=method)[1] == [(b"", b"")]
    assert ask(method=method, kind="lifespan")[1] == [(b"", b"")]


def test_a_body_that_is_judged_bad_is_refused_whole() -> None:
    sent, passed = ask(part(b"ba", more=True), part(b"d", more=False))
    assert not passed and sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["error"]["message"] == "it is bad; send a good one"


def test_a_body_that_does_not_end_is_refused_in_time() -> None:
    for messages in ((), (part(b"ab", more=True),)):
        sent, passed = ask(*messages)
        assert not passed and sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["detail"] == "the request was not complete after 0.05 seconds; send it again"


def test_a_long_body_is_refused_before_its_end() -> None:
    sent, passed = ask(part(b"x" * 6, more=True), part(b"x" * 6, more=True))
    assert not passed and sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["error"]["message"].startswith("a request has at most 10 bytes; ")


def test_a_client_that_leaves_is_sent_nothing() -> None:
    assert ask({"type": "http.disconnect"}) == ([], [])
    assert ask(part(b"ab", more=True), {"type": "http.disconnect"}) == ([], [])


def test_the_application_hears_of_a_client_that_leaves_later() -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive(), await receive()])

    messages = [part(b"a", more=False), {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None: ...

    asyncio.run(WholeBody(app)({"type": "http", "method": "POST"}, receive, send))
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]
