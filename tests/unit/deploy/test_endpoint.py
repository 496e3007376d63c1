"""Whatever a server replies, asking it ends in a typed answer or in one line."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from helpers.loopback_servers import raw_server, stub_server

from qdsft.deploy import endpoint
from qdsft.deploy.endpoint import Endpoint, ServedAnswer, choose_model
from qdsft.errors import UserError

MESSAGES = [{"role": "user", "content": "Who?"}]


def ask(address: str, seconds: float = 5) -> ServedAnswer:
    return Endpoint(address, seconds=seconds).answer("m", MESSAGES, [1, 2], 8, greedy=True)


GOOD: dict[str, Any] = {"choices": [{"message": {"content": " 1. a\n"}, "finish_reason": "stop"}]}


def test_an_answer_is_read() -> None:
    reply = {**GOOD, "usage": {"prompt_tokens": 2}, "prompt_token_ids": [1, 2], "unknown": []}
    with stub_server(lambda path, body: (200, reply)) as address:
        assert ask(address) == ServedAnswer("1. a", True, 2, (1, 2))


def test_a_greedy_request_says_so_and_another_one_does_not() -> None:
    asked: list[dict[str, Any]] = []

    def respond(path: str, body: dict[str, Any]) -> tuple[int, object]:
        asked.append(body)
        return 200, GOOD

    with stub_server(respond) as address:
        for greedy in (True, False):
            Endpoint(address).answer("m", MESSAGES, [1, 2], 8, greedy=greedy)
    common = {"model": "m", "max_tokens": 8, "messages": MESSAGES}
    assert asked == [{**common, "temperature": 0}, common]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"text": "no chat"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": ["1. a"]}}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": {}}]}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "2"}}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": -2}}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": true}}',
        b'{"choices": [{"message": {"content": "a"}}], "prompt_token_ids": ["1"]}',
        b'{"choices": [{"message": {"content": "%s"}}]}' % (b"1. a\\n" * 99),
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": %s}}' % (b"9" * 5000),
        b"[" * 100_000,
        b'{"choices": ' * 50_000,
        b"9" * 100_000,
        b" " * (endpoint.MOST_BYTES + 1),
    ],
)
def test_a_reply_of_another_shape_is_one_line(reply: bytes) -> None:
    with stub_server(lambda path, body: (200, reply)) as address, pytest.raises(UserError) as caught:
        ask(address)
    assert "/v1/chat/completions" in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 429, 500, 503])
def test_a_status_is_one_line(status: int) -> None:
    with (
        stub_server(lambda path, body: (status, b"\x1b[31m" + b"x" * 9999)) as address,
        pytest.raises(UserError, match=f"status {status}") as caught,
    ):
        ask(address)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (b"nonsense\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",),
        (b"HTTP/1.1 200 OK\r\n" + b"a: " + b"b" * 300_000 + b"\r\n\r\n",),
    ],
)
def test_broken_http_is_one_line(parts: tuple[bytes, ...]) -> None:
    with raw_server(*parts) as address, pytest.raises(UserError):
        ask(address)


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", *([b" "] * 99)),
        (b"HTTP/1.1 200 OK\r\n", *([b"a: b\r\n"] * 99)),
    ],
    ids=["body", "headers"],
)
def test_a_reply_that_drips_ends_in_time(parts: tuple[bytes, ...]) -> None:
    began = time.monotonic()
    with raw_server(*parts, pause=0.05) as address, pytest.raises(UserError, match="no whole reply"):
        ask(address, seconds=0.4)
    assert time.monotonic() - began < 3


def test_an_endless_reply_ends() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with raw_server(head, *([b"x" * 2**20] * 16)) as address, pytest.raises(UserError, match="more than"):
        ask(address)


def test_nobody_there_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UserError, match="check that an OpenAI-compatible server runs there"):
        ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://a", "file:///etc/passwd", "http://", "http://a?x=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="--endpoint"):
        Endpoint(url)


def test_a_password_in_the_address_is_not_printed() -> None:
    with pytest.raises(UserError, match="QDSFT_SERVE_TOKEN") as caught:
        Endpoint("http://me:hidden@host")
    assert "hidden" not in str(caught.value)


def test_paths_that_mean_something_else_tokenize_nothing() -> None:
    replies = [(404, b""), (422, b"{}"), (200, b"<html>"), (200, b'{"tokens": []}'), (200, b'[[{"id": 1}]]')]
    replies += [(200, b'{"tokens": [-1]}'), (200, b'{"tokens": [%s]}' % (b"9" * 5000))]
    with stub_server(lambda path, body: current) as address:
        for current in replies:
            assert Endpoint(address).prompt_ids("m", MESSAGES) is None, current


def test_a_model_is_chosen() -> None:
    assert choose_model(["base", "run"], None, "run") == "run"
    assert choose_model(["other"], None, "run") == "other"
    assert choose_model(["a", "b"], "c", "run") == "c"
    for listed in ([], ["a", "b"]):
        with pytest.raises(UserError, match="--model NAME"):
            choose_model(listed, None, "run")
