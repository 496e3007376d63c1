"""One client cannot hold the queue of the demo, and many at once are all answered or refused."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.demo_page import served, writes

from qdsft.deploy import whole_body
from qdsft.deploy.demo.places import MOST_EACH, FairPlaces
from qdsft.deploy.whole_body import BODY

pytest.importorskip("gradio", reason="the extra demo is not installed")

GOOD = "1. Who is Ada?\n2. How old is #1?"


def event(host: str, session: str = "s") -> Any:
    return SimpleNamespace(request=SimpleNamespace(client=(host, 1)), session_hash=session)


def status(events: list[Any], host: str, session: str | None = "s", path: str = "/gradio_api/queue/join") -> int:
    """The status with which a question is refused while these wait; 0 for one that is passed on."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def send(message: Any) -> None:
        sent.append(message)

    waiting, active = events[1:], events[:1]
    queue = SimpleNamespace(event_queue_per_concurrency_id={"a": SimpleNamespace(queue=waiting)}, active_jobs=[active])
    page: Any = SimpleNamespace(_queue=queue)
    body = json.dumps({"session_hash": session} if session else {}).encode()
    scope = {"type": "http", "method": "POST", "path": path, "client": (host, 9), BODY: body}

    async def receive() -> Any:
        return {}

    asyncio.run(FairPlaces(app, page=page)(scope, receive, send))
    return sent[0]["status"] if sent else 0


def test_a_client_gets_a_few_places() -> None:
    held = [event("10.0.0.1", str(number)) for number in range(MOST_EACH)]
    assert status(held, "10.0.0.1") == 503
    assert status(held, "10.0.0.1", path="/gradio_api/call/answer") == 503
    assert status(held[1:], "10.0.0.1") == 0 and status(held, "10.0.0.2") == 0
    assert status(held, "10.0.0.1", path="/gradio_api/upload") == 0


def test_clients_of_this_machine_are_told_apart_by_their_sessions() -> None:
    held = [event("127.0.0.1", "mine")] * MOST_EACH
    assert status(held, "127.0.0.1", "mine") == 503 and status(held, "127.0.0.1", "other") == 0
    assert status(held, "::1", "mine") == 503
    assert status([event("127.0.0.1")] * MOST_EACH, "127.0.0.1", None) == 0


def post(port: int, data: list[Any], session: str | None = None) -> tuple[int, Any]:
    """Send a question; return the status and what was answered."""
    body = json.dumps({"data": data, **({"session_hash": session} if session else {})}).encode()
    url = f"http://127.0.0.1:{port}/gradio_api/call/answer"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def result(port: int, event_id: str) -> str:
    """Read the answer to a question to its end."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/gradio_api/call/answer/{event_id}", timeout=120) as stream:
        return str(stream.read().decode())


@pytest.mark.slow
def test_fifty_clients_at_once_and_a_half_sent_request(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    defaults = whole_body.WholeBody.__init__.__kwdefaults__
    monkeypatch.setattr(whole_body.WholeBody.__init__, "__kwdefaults__", {**(defaults or {}), "seconds": 1.0})
    with served(writes("one", GOOD, seconds=0.2)) as (_, port):
        with (
            socket.create_connection(("127.0.0.1", port)) as half,
            socket.create_connection(("127.0.0.1", port)) as gone,
        ):
            head = b"POST /gradio_api/call/answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n{"
            half.sendall(head)
            gone.sendall(head)
            gone.close()
            assert post(port, ["Who?", [0] * 1000, "en"])[0] == 200  # the page refuses a model that is named twice
            half.settimeout(10)
            assert b"408" in half.recv(2000)

        def ask(number: int) -> tuple[str, float]:
            start = time.monotonic()
            code, found = post(port, [f"Who is number {number}?", [0], "en"])
            if code == 503:
                return found["detail"], time.monotonic() - start
            assert code == 200, found
            text = result(port, found["event_id"])
            assert "event: complete" in text
            return "answered", time.monotonic() - start

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(ask, range(50)))
        said = Counter(text for text, _ in found)
        if report := os.environ.get("QDSFT_REPORT"):
            Path(report).write_text(f"{said}, slowest {max(seconds for _, seconds in found):.1f} s", encoding="utf-8")
        assert said["answered"] >= 20 and sum(said.values()) == 50
        assert all(text == "answered" or text.startswith("Queue is full") for text in said)
        held = [post(port, ["Who?", [0], "en"], "mine") for _ in range(MOST_EACH + 1)]
        assert [code for code, _ in held] == [200] * MOST_EACH + [503]
    assert "Traceback" not in capfd.readouterr().err
