"""Let a bounded number of requests wait for an answer, for a bounded time, and stop those whose client has left."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

from qdsft.deploy.whole_body import App, Message, Receive, Send, send_json

MOST_WAITING = 64
"""Requests that wait for an answer or receive it."""
SECONDS = 600.0
"""Time for an answer, waiting included."""
SECONDS_TO_END = 10.0
"""Time that the application has to end after nobody waits for its answer."""
GONE: ContextVar[threading.Event] = ContextVar("GONE")
"""Set, in the context of a request, when nobody waits for its answer."""


class RequestQueue:
    """An ASGI application around another, whose POST requests it counts and times.

    A request beyond `most` is answered 503, one that takes over `seconds` 504. The application learns from GONE that
    nobody waits for an answer any more; it is not cancelled while it computes.
    """

    def __init__(self, app: App, *, most: int = MOST_WAITING, seconds: float = SECONDS) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._waiting = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on if there is room."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._waiting >= self._most:
            busy = {"error": {"message": f"{self._most} requests are waiting; ask again in a moment"}}
            await send_json(send, 503, busy, (b"retry-after", b"1"), (b"connection", b"close"))
        else:
            self._waiting += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self._waiting -= 1

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        gone, left, started = threading.Event(), asyncio.Event(), asyncio.Event()
        GONE.set(gone)
        body = await receive()

        async def replay() -> Message:
            nonlocal body
            if body["type"] == "http.request":
                message, body = body, {"type": "http.disconnect"}
                return message
            await left.wait()
            return body

        async def pass_on(message: Message) -> None:
            if not gone.is_set():
                started.set()
                await send(message)

        answering: asyncio.Future[None] = asyncio.ensure_future(self._app(scope, replay, pass_on))
        leaving = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({answering, leaving}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                gone.set()
                left.set()
                await asyncio.wait({answering}, timeout=SECONDS_TO_END)
                if not leaving.done() and not started.is_set():
                    late = {"error": {"message": f"no answer in {self._seconds:g} seconds; ask for fewer tokens"}}
                    await send_json(send, 504, late, (b"connection", b"close"))
            if answering.done():
                answering.result()  # raises what the application raised
        finally:
            answering.cancel()
            leaving.cancel()


async def _disconnect(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
