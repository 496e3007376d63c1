"""A server behind the guard takes the requests that answering needs, and no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from qdsft.deploy.request_guard import RequestGuard
from qdsft.deploy.whole_body import MOST_BYTES

Headers = list[tuple[bytes, bytes]]
HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
JSON = {"host": "127.0.0.1:8000", "content-type": "application/json", "content-length": "2"}


def ask(guard_options: dict[str, Any], method: str, path: str, headers: Headers, kind: str = "http") -> tuple[int, Any]:
    """Return (status, body) of a request; (0, None) for one that was passed on."""
    passed: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    guard = RequestGuard(app, model="run", **guard_options)
    asyncio.run(guard({"type": kind, "method": method, "path": path, "headers": headers}, receive, send))
    if passed:
        assert not sent
        return 0, None
    if kind != "http":
        return sent[0]["code"], None
    return sent[0]["status"], json.loads(sent[1]["body"])


def status(method: str, path: str, token: str | None = None, hosts: Any = HOSTS, **headers: str) -> int:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return ask({"hosts": hosts, "token": token}, method, path, pairs)[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "LocalHost:8000", "[::1]:8000", "[::1]"])
def test_requests_for_answers_pass(host: str) -> None:
    assert status("POST", "/v1/chat/completions", **{**JSON, "host": host}) == 0
    assert status("GET", "/health", host=host) == 0


def test_the_served_model_is_the_only_one_listed() -> None:
    found = ask({"hosts": HOSTS, "token": None}, "GET", "/v1/models", [(b"host", b"localhost")])
    assert found[0] == 200 and [model["id"] for model in found[1]["data"]] == ["run"]


@pytest.mark.parametrize(
    "path",
    [
        "/load_model",
        "/reset",
        "/v1/completions",
        "/v1/responses",
        "/v1/systemone",
        "/v1/audio/transcriptions",
        "/docs",
        "/openapi.json",
        "/",
        "",
        "//load_model",
        "/v1/chat/completions/",
        "/v1/chat/../../load_model",
        "/V1/chat/completions",
    ],
)
def test_no_other_path(path: str) -> None:
    assert status("POST", path, **JSON) == 404 and status("GET", path, host="localhost") == 404


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "PUT", "DELETE", "HEAD", "post"])
def test_no_other_method(method: str) -> None:
    assert status(method, "/v1/chat/completions", **JSON) == 405


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "127.0.0.2", "[::2]", "[::1].evil", ":80"],
)
def test_no_other_host_name(host: str) -> None:
    assert status("POST", "/v1/chat/completions", **{**JSON, "host": host}) == 403
    assert status("GET", "/v1/models") == 403


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Bearer secret", 0),
        ("", 401),
        ("Bearer ", 401),
        ("secret", 401),
        ("bearer secret", 401),
        ("Bearer secret2", 401),
        ("Bearer secre", 401),
        ("Bearer s\xe9cret", 401),
        ("Basic secret", 401),
    ],
)
@pytest.mark.parametrize("hosts", [HOSTS, None])
def test_a_token_is_needed_for_every_path(given: str, expected: int, hosts: Any) -> None:
    headers = {**JSON, "authorization": given}
    assert status("POST", "/v1/chat/completions", "secret", hosts, **headers) == expected
    assert status("GET", "/health", "secret", hosts, **headers) == expected
    assert status("POST", "/load_model", "secret", hosts, **headers) == (expected or 404)


def test_a_page_of_another_site_cannot_send_a_form() -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/application/json"):
        assert status("POST", "/v1/chat/completions", **{**JSON, "content-type": kind}) == 415
    assert status("POST", "/v1/chat/completions", **{**JSON, "content-type": "Application/JSON; charset=utf-8"}) == 0


def test_the_length_is_known_and_small() -> None:
    lengths = {str(MOST_BYTES): 0, str(MOST_BYTES + 1): 413, "9" * 5000: 413, "": 411, "-1": 411, "x": 411}
    for length, expected in lengths.items():
        assert status("POST", "/v1/chat/completions", **{**JSON, "content-length": length}) == expected


def test_doubled_headers_and_sockets_are_refused() -> None:
    options = {"hosts": HOSTS, "token": None}
    twice = [(b"host", b"localhost"), (b"Host", b"evil.example")]
    assert ask(options, "GET", "/v1/models", twice)[0] == 400
    assert ask(options, "GET", "/v1/models", [(b"host", b"localhost")], "websocket")[0] == 1008
    assert ask(options, "", "", [], "lifespan")[0] == 0


def test_an_open_server_without_a_token_is_not_made() -> None:
    for token in (None, ""):
        with pytest.raises(ValueError, match="without a token"):
            RequestGuard(lambda *_: asyncio.sleep(0), model="run", hosts=None, token=token)
