"""Requests wait in a bounded number, for a bounded time, and end when their client leaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from qdsft.deploy import request_queue
from qdsft.deploy.request_queue import GONE, RequestQueue

SCOPE = {"type": "http", "method": "POST"}
BODY = {"type": "http.request", "body": b"asked", "more_body": False}
LEFT = {"type": "http.disconnect"}


class Client:
    """What a client sends and is sent. It leaves when `leave` is set."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.sent: list[Any] = []
        self._pending = [BODY]

    async def receive(self) -> Any:
        if self._pending:
            return self._pending.pop()
        await self.leave.wait()
        return LEFT

    async def send(self, message: Any) -> None:
        self.sent.append(message)


async def answer(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def status(client: Client) -> list[int]:
    return [message["status"] for message in client.sent if "status" in message]


def test_a_request_is_answered_and_its_body_seen_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == BODY and not GONE.get().is_set()
        await answer(send)

    async def main() -> Client:
        client, queue = Client(), RequestQueue(app, most=1)
        await queue(SCOPE, client.receive, client.send)
        await queue(SCOPE, Client().receive, client.send)  # the place is free again
        return client

    assert status(asyncio.run(main())) == [200, 200]


def test_one_request_too_many_is_refused_and_others_pass() -> None:
    async def main() -> list[Client]:
        free = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await (free.wait() if scope["method"] == "POST" else asyncio.sleep(0))
            await answer(send)

        queue, clients = RequestQueue(app, most=2), [Client() for _ in range(4)]
        waiting = [asyncio.create_task(queue(SCOPE, one.receive, one.send)) for one in clients[:2]]
        await asyncio.sleep(0.01)
        await queue(SCOPE, clients[2].receive, clients[2].send)
        await queue({**SCOPE, "method": "GET"}, clients[3].receive, clients[3].send)
        free.set()
        await asyncio.gather(*waiting)
        return clients

    clients = asyncio.run(main())
    assert [status(one) for one in clients] == [[200], [200], [503], [200]]
    assert (b"retry-after", b"1") in clients[2].sent[0]["headers"]
    assert "ask again" in json.loads(clients[2].sent[1]["body"])["error"]["message"]


@pytest.mark.parametrize("leaves", [True, False])
def test_an_answer_that_nobody_waits_for_ends(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gone = GONE.get()
        while not gone.is_set():  # decodes
            await asyncio.sleep(0.001)
        heard.extend([await receive(), await receive()])
        await answer(send)

    async def main() -> Client:
        client = Client()
        asking = asyncio.create_task(
            RequestQueue(app, seconds=60 if leaves else 0.05)(SCOPE, client.receive, client.send)
        )
        await asyncio.sleep(0.01)
        if leaves:
            client.leave.set()
        await asyncio.wait_for(asking, 5)
        return client

    client = asyncio.run(main())
    assert heard == [BODY, LEFT]
    assert status(client) == ([] if leaves else [504])


def test_an_application_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_queue, "SECONDS_TO_END", 0.02)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)  # for example, a client that does not read its stream

    async def main() -> Client:
        client = Client()
        await asyncio.wait_for(RequestQueue(app, seconds=0.02)(SCOPE, client.receive, client.send), 5)
        return client

    assert status(asyncio.run(main())) == [200]


def test_what_the_application_raises_is_raised() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("planted")

    client = asyncio.run(make_client())
    with pytest.raises(LookupError, match="planted"):
        asyncio.run(RequestQueue(app)(SCOPE, client.receive, client.send))


async def make_client() -> Client:
    return Client()
