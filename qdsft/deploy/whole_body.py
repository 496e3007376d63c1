"""Pass a request on to a server only when its whole body has arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from qdsft.strict_json import to_json

MOST_BYTES = 2**20
"""Largest body of a request."""
SECONDS = 10.0
"""Time that a client has to send a body."""
BODY = "qdsft.body"
"""Key of an ASGI scope: the body that was received."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]


class _TooLong(Exception):
    """The body has more than the allowed bytes."""


class WholeBody:
    """An ASGI application around another: receives the body of a request first.

    The application never sees a request whose body takes too long, is too long, or whose client leaves before its end,
    nor one for which `judge` returns a reason to refuse its body.
    """

    def __init__(
        self,
        app: App,
        *,
        seconds: float = SECONDS,
        most_bytes: int = MOST_BYTES,
        judge: Callable[[bytes], str | None] | None = None,
    ) -> None:
        self._app = app
        self._judge = judge
        self._seconds = seconds
        self._most_bytes = most_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Receive the body and pass the request on, or answer 408, 413 or 400."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._receive(receive)
        except TimeoutError:
            await answer(send, 408, f"the request was not complete after {self._seconds:g} seconds; send it again")
            return
        except _TooLong:
            await answer(send, 413, f"a request has at most {self._most_bytes} bytes; ask a shorter question")
            return
        if body is None:  # the client has left
            return
        if self._judge and (problem := self._judge(body)):
            await answer(send, 400, problem)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app({**scope, BODY: body}, replay, send)

    async def _receive(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                raise _TooLong
            if not message.get("more_body", False):
                return bytes(body)


async def answer(send: Send, status: int, detail: str) -> None:
    """Refuse a request in one sentence, which Gradio's page and OpenAI's clients show, and end the connection."""
    await send_json(send, status, {"detail": detail, "error": {"message": detail}}, (b"connection", b"close"))


async def send_json(send: Send, status: int, content: dict[str, Any], *headers: Header) -> None:
    """Answer a request with JSON."""
    kind = (b"content-type", b"application/json")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "http.response.body", "body": to_json(content).encode("utf-8")})
