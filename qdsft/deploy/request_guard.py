"""Let through to a server only the requests that answering needs."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from qdsft.deploy.whole_body import MOST_BYTES, App, Message, Receive, Send, send_json

MODELS = "/v1/models"
ALLOWED = {"/v1/chat/completions": "POST", MODELS: "GET", "/health": "GET"}
"""Path -> method. transformers' other paths load and unload models for whoever asks."""


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that is not let through."""

    status: int
    message: str


class RequestGuard:
    """An ASGI application around another: checks host, token, path, method, type and length of each request.

    `hosts` are the names that the Host header may have, without port; None allows every name. A web page that makes its
    own name point to this machine has another one. Without `token`, no Authorization header is needed. MODELS lists
    `model` alone; transformers would list every model in the user's cache.
    """

    def __init__(self, app: App, *, model: str, hosts: frozenset[str] | None, token: str | None) -> None:
        if hosts is None and not token:
            raise ValueError("a server without a token needs the names of its host")
        self._app = app
        self._models = {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "qdsft"}]}
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a refused request, and pass on every other one."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif refusal := self.refusal(scope["method"], scope["path"], scope["headers"]):
            await send_json(send, refusal.status, {"error": {"message": refusal.message}}, (b"connection", b"close"))
        elif scope["path"] == MODELS:
            await send_json(send, 200, self._models)
        else:
            await self._app(scope, receive, send)

    def refusal(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Refusal | None:
        """Return why a request is refused; None for one that may pass."""
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name.lower() in found and name.lower() in {b"host", b"authorization", b"content-length"}:
                return Refusal(400, f"two headers {name.decode('latin-1')}")
            found[name.lower()] = value
        if self._hosts is not None and _host_name(found.get(b"host", b"")) not in self._hosts:
            return Refusal(403, "this server is not known under that host name")
        if self._token is not None:
            expected = f"Bearer {self._token}".encode()
            if not hmac.compare_digest(found.get(b"authorization", b""), expected):
                return Refusal(401, "give the token of this server: Authorization: Bearer TOKEN")
        if path not in ALLOWED:
            return Refusal(404, f"this server answers {', '.join(ALLOWED)} only")
        if method != ALLOWED[path]:
            return Refusal(405, f"{path} takes {ALLOWED[path]}")
        return _body_refusal(found) if method == "POST" else None


def _body_refusal(headers: dict[bytes, bytes]) -> Refusal | None:
    # A web page can send other types to this machine without asking the browser first.
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
        return Refusal(415, "send application/json")
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        return Refusal(411, "send Content-Length")
    if int(length[:20]) > MOST_BYTES:
        return Refusal(413, f"a request has at most {MOST_BYTES} bytes")
    return None


def _host_name(header: bytes) -> str:
    """Return the name in a Host header, in small letters and without its port."""
    text = header.decode("latin-1").strip().lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdigit() else text
