"""Ask any OpenAI-compatible server. Nothing that a server replies is trusted: length, time and types are bounded."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError

from qdsft.data.prompt import Message
from qdsft.deploy.guarded_server import TOKEN
from qdsft.deploy.listening import LOCAL_NAMES
from qdsft.deploy.replies import Completion, Models, Prompt, Reply, Tokens, Usage
from qdsft.environment import variable
from qdsft.errors import UserError, cut, reason
from qdsft.strict_json import to_json

MOST_BYTES = 4 * 1024 * 1024
"""Length of a reply. The token ids of a prompt take about 7 bytes each."""
SECONDS = 300.0
"""Time for one reply, from the connection to its last byte."""
NOT_OFFERED = (400, 404, 405, 422, 501)
"""Status of a server that has no such path, or that knows the path with other fields."""
BUSY = (408, 425, 429, 500, 502, 503, 504, 529)
"""Status of a server that may answer the same request later."""
NOT_THIS_REQUEST = (400, 413, 422)
"""Status of a server that refuses one request, such as for its length or its content."""
LONGEST_WAIT = 60.0
"""Seconds. A server that asks for a longer pause gets this one."""
SHORTEST_TOKEN = 8
"""Characters. A shorter token could occur in an answer by chance."""

LONGEST_TOKEN = 32
"""Characters. A text that is longer for each of max_tokens is not read: its scores could take minutes."""

_HEADER = re.compile("[!-~]+")

_Any = TypeVar("_Any", bound=Reply)


class ServerBusy(UserError):
    """A server that cannot be reached or cannot answer now. The same request may succeed later."""

    wait: float = 0.0
    """Seconds that the server asks to wait."""


class BadReply(UserError):
    """A refusal of one request, or a reply that holds no answer. Other requests may succeed."""


@dataclass(frozen=True)
class _Received:
    status: int
    content: bytes
    wait: float
    """Seconds that the server asks to wait, at most LONGEST_WAIT."""


@dataclass(frozen=True)
class ServedAnswer:
    """A server's answer to one prompt."""

    text: str
    """Without surrounding whitespace."""
    stopped: bool | None = None
    """Whether the model ended the answer; False if max_tokens did, None if the server does not say."""
    prompt_tokens: int | None = None
    """Number of tokens of the prompt, as the server counts them."""
    prompt_ids: tuple[int, ...] | None = None
    """Token ids of the prompt, from a server that returns them with the answer."""
    completion_tokens: int | None = None
    """Number of tokens of the answer, as the server counts them."""


class Endpoint:
    """An OpenAI-compatible server at a URL, with or without /v1.

    The environment variable `token_name` holds the token, if the server needs one. Several threads may use an endpoint.
    Every method raises UserError for a server that cannot be reached, refuses the request or replies something else.
    Redirects are not followed.
    """

    def __init__(self, url: str, *, token_name: str = TOKEN, seconds: float = SECONDS) -> None:
        self._token_name, self._token = token_name, variable(token_name)
        self._url = _checked(url, token_name)
        self._seconds = seconds
        self._headers = {"Accept-Encoding": "identity"}  # a compressed reply could be longer than it seems
        if self._token:
            if not _HEADER.fullmatch(self._token):
                raise UserError(
                    f"{token_name}: the token has spaces or other characters that no header holds; correct it"
                )
            self._headers["Authorization"] = f"Bearer {self._token}"
        plain = self._url.startswith("http://") and _is_local(self._url)  # then no certificates are loaded
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx2.create_ssl_context()
        self._has_chat = True

    def models(self) -> list[str]:
        """Return the names of the models that the server lists; empty if it has no list."""
        received = self._request("GET", "/v1/models")
        if received.status in NOT_OFFERED:
            return []
        self._check_status("/v1/models", received)
        return [model.id for model in self._parse("/v1/models", received.content, Models).data]

    def prompt_ids(self, model: str, messages: Sequence[Message]) -> list[int] | None:
        """Return the token ids of a prompt, None from a server that does not tokenize.

        llama.cpp's server renders and tokenizes in two requests, and vLLM in one.
        """
        given: dict[str, Any] = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        rendered = self._offered("/apply-template", {"messages": list(messages)}, Prompt)
        if rendered is not None:
            given = {"content": rendered.prompt, "add_special": True, "parse_special": True}
        found = self._offered("/tokenize", given, Tokens)
        return found.tokens if found and found.tokens else None

    def answer(
        self, model: str, messages: Sequence[Message], ids: Sequence[int], max_tokens: int, *, greedy: bool
    ) -> ServedAnswer:
        """Return the answer to a prompt; without `greedy`, the request leaves the temperature to the server.

        A server without chat completions is sent the token ids of the prompt.
        """
        body: dict[str, Any] = {"model": model, "max_tokens": max_tokens} | ({"temperature": 0} if greedy else {})
        if self._has_chat:
            path, asked = "/v1/chat/completions", {**body, "messages": list(messages)}
            received = self._request("POST", path, asked)
            self._has_chat = received.status not in (404, 405)
        if not self._has_chat:
            path = "/v1/completions"
            received = self._request("POST", path, {**body, "prompt": list(ids)})
        self._check_status(path, received)
        return self._read(path, received, max_tokens)

    def chat(self, body: Mapping[str, Any], max_tokens: int) -> ServedAnswer:
        """Return the answer to a request of chat completions; raises ServerBusy, BadReply or another UserError."""
        path = "/v1/chat/completions"
        received = self._request("POST", path, dict(body))
        self._check_status(path, received)
        return self._read(path, received, max_tokens)

    def _read(self, path: str, received: _Received, max_tokens: int) -> ServedAnswer:
        found = self._parse(path, received.content, Completion)
        choice = found.choices[0]
        if (choice.message if self._has_chat else choice.text) is None:
            raise self._bad_reply(path, "the reply holds no answer")
        text = (choice.message.content if self._has_chat and choice.message else choice.text) or ""
        if len(text) > LONGEST_TOKEN * max_tokens:
            raise self._bad_reply(path, f"{len(text)} characters are no answer of {max_tokens} tokens")
        if len(self._token) >= SHORTEST_TOKEN and self._token in text:
            raise self._bad_reply(path, f"the answer repeats the value of {self._token_name}")
        usage = found.usage if found.usage and self._has_chat else Usage()
        seen = found.prompt_token_ids if self._has_chat else None
        stopped = {"stop": True, "length": False}.get(choice.finish_reason or "")
        ids = None if seen is None else tuple(seen)
        return ServedAnswer(text.strip(), stopped, usage.prompt_tokens, ids, usage.completion_tokens)

    def _offered(self, path: str, body: dict[str, Any], kind: type[_Any]) -> _Any | None:
        received = self._request("POST", path, body)
        if received.status in NOT_OFFERED:
            return None
        self._check_status(path, received)
        try:
            return kind.model_validate_json(received.content)
        except ValidationError:  # the path means something else there
            return None

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> _Received:
        try:
            return asyncio.run(self._exchange(method, path, body))
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise self._busy(path, f"no whole reply in {self._seconds:g} seconds") from error
        except UserError:
            raise
        except (httpx2.HTTPError, OSError, ValueError) as error:
            raise self._busy(path, reason(error)) from error

    async def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> _Received:
        content = None if body is None else to_json(body).encode("utf-8")
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        received = bytearray()
        local = _is_local(self._url)  # a proxy that the environment names cannot reach this machine
        async with (
            asyncio.timeout(self._seconds),  # httpx's own limit is that of each read
            httpx2.AsyncClient(timeout=self._seconds, trust_env=not local, verify=self._tls) as client,
            client.stream(method, self._url + path, content=content, headers=headers) as reply,
        ):
            async for chunk in reply.aiter_raw():
                received += chunk
                if len(received) > MOST_BYTES:
                    raise self._bad_reply(path, f"the reply has more than {MOST_BYTES} bytes")
            return _Received(reply.status_code, bytes(received), _wait(reply.headers.get("Retry-After", "")))

    def _check_status(self, path: str, received: _Received) -> None:
        status = received.status
        if status == 200:
            return
        if status in (401, 403):
            raise UserError(f"{self._url}{path}: status {status}; set {self._token_name} to the token of this server")
        said = received.content.decode("utf-8", "replace")
        said = cut((said.replace(self._token, "***") if self._token else said).strip(), 200)
        message = f"status {status}{f': {said}' if said else ''}"
        if status in BUSY:
            raise self._busy(path, message, received.wait)
        raise self._bad_reply(path, message) if status in NOT_THIS_REQUEST else UserError(self._message(path, message))

    def _parse(self, path: str, content: bytes, kind: type[_Any]) -> _Any:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the reply"
            raise self._bad_reply(path, f"{place}: {first['msg']}") from error

    def _busy(self, path: str, what: str, wait: float = 0.0) -> ServerBusy:
        error = ServerBusy(self._message(path, what))
        error.wait = wait
        return error

    def _bad_reply(self, path: str, what: str) -> BadReply:
        return BadReply(self._message(path, what))

    def _message(self, path: str, what: str) -> str:
        return f"{self._url}{path}: {what}; check that an OpenAI-compatible server runs there"


def choose_model(listed: Sequence[str], wanted: str | None, run_name: str) -> str:
    """Return the model to ask for: `wanted`, else the one that is named like the run, else the only one.

    Raises UserError, naming the models, if it cannot choose.
    """
    if wanted is not None:
        return wanted
    if run_name in listed:
        return run_name
    if len(listed) == 1:
        return listed[0]
    names = ", ".join(cut(name) for name in listed[:5]) or "none"
    raise UserError(f"the server lists the models {names}; choose one with --model NAME")


def _checked(url: str, token_name: str) -> str:
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise UserError(f"--endpoint {url}: {reason(error)}; write http://HOST:PORT") from error
    if found.scheme not in ("http", "https") or not found.host or found.query or found.fragment:
        raise UserError(f"--endpoint {url}: no address of a server; write http://HOST:PORT")
    if found.userinfo:
        raise UserError(f"--endpoint: the URL holds a password; set {token_name} to the token of the server")
    return str(found).rstrip("/").removesuffix("/v1")


def _is_local(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return host in LOCAL_NAMES or ip_address(host).is_loopback
    except ValueError:
        return False


def _wait(header: str) -> float:
    """Return the seconds of a Retry-After header, at most LONGEST_WAIT; 0.0 for a date and for anything else."""
    return min(float(header), LONGEST_WAIT) if header.isascii() and header.isdigit() else 0.0
