"""Leave places in the demo's queue to other clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import gradio as gr

from qdsft.deploy.whole_body import BODY, App, Message, Receive, Send, answer

MOST_EACH = 3
"""Questions of one client that wait or are answered at the same time."""


class FairPlaces:
    """An ASGI application around Gradio's: refuses a question of a client that has MOST_EACH in the queue.

    Clients are told apart by their addresses. Those of this machine, and all that come through a tunnel, have the same
    address and are told apart by their sessions. Put `WholeBody` around it, which receives the body.
    """

    def __init__(self, app: App, *, page: gr.Blocks) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Refuse a question with 503, or pass the request on."""
        asks = scope["type"] == "http" and scope["method"] == "POST"
        if asks and ("/queue/join" in scope["path"] or "/call/" in scope["path"]):
            client = _client(scope.get("client"), _session(scope.get(BODY, b"")))
            if client is not None and list(self._clients()).count(client) >= MOST_EACH:
                await answer(send, 503, f"{MOST_EACH} of your questions are not answered yet; wait for an answer")
                return
        await self._app(scope, receive, send)

    def _clients(self) -> Iterator[str | None]:
        """Yield the client of each question that waits or is answered."""
        queue = self._page._queue
        waiting = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
        active = [event for events in queue.active_jobs if events for event in events]
        for event in [*waiting, *active]:
            yield _client(event.request.client, event.session_hash)


def _client(address: Any, session: str | None) -> str | None:
    host = address[0] if address else ""
    try:
        return session if ip_address(host).is_loopback else host
    except ValueError:
        return session


def _session(body: bytes) -> str | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = content.get("session_hash") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None
