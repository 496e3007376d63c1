"""Ask any OpenAI-compatible server. Nothing that a server replies is trusted: length, time and types are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qdsft.data.prompt import Message
from qdsft.deploy.listening import LOCAL_NAMES
from qdsft.errors import UserError, cut, reason
from qdsft.strict_json import to_json
from qdsft.time_limit import TookTooLong, time_limit

MOST_BYTES = 4 * 1024 * 1024
"""Length of a reply. The token ids of a prompt take about 7 bytes each."""
SECONDS = 300.0
"""Time for one reply, from the connection to its last byte."""
NOT_OFFERED = (400, 404, 405, 422, 501)
"""Status of a server that has no such path, or that knows the path with other fields."""


LONGEST_TOKEN = 32
"""Characters. A text that is longer for each of max_tokens is not read: its scores could take minutes."""

_Number = Annotated[int, Field(ge=0, lt=2**31)]


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True)


class _Model(_Reply):
    id: Annotated[str, Field(min_length=1, max_length=400)]


class _Models(_Reply):
    data: list[_Model]


class _Said(_Reply):
    content: str | None = None


class _Choice(_Reply):
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(_Reply):
    prompt_tokens: _Number | None = None


class _Completion(_Reply):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None
    prompt_token_ids: list[_Number] | None = None


class _Tokens(_Reply):
    tokens: list[_Number]


class _Prompt(_Reply):
    prompt: str


_Any = TypeVar("_Any", bound=_Reply)


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


class Endpoint:
    """An OpenAI-compatible server at a URL, with or without /v1.

    Every method raises UserError for a server that cannot be reached, refuses the request or replies something else.
    """

    def __init__(self, url: str, *, token: str = "", seconds: float = SECONDS) -> None:
        self._url = _checked(url)
        self._seconds = seconds
        headers = {"Accept-Encoding": "identity"}  # a compressed reply could be longer than it seems
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A proxy that the environment names cannot reach this machine.
        self._client = httpx2.Client(headers=headers, timeout=seconds, trust_env=not _is_local(self._url))
        self._has_chat = True

    def models(self) -> list[str]:
        """Return the names of the models that the server lists; empty if it has no list."""
        status, content = self._request("GET", "/v1/models")
        if status in NOT_OFFERED:
            return []
        self._check_status("/v1/models", status, content)
        return [model.id for model in self._parse("/v1/models", content, _Models).data]

    def prompt_ids(self, model: str, messages: Sequence[Message]) -> list[int] | None:
        """Return the token ids of a prompt, None from a server that does not tokenize.

        llama.cpp's server renders and tokenizes in two requests, and vLLM in one.
        """
        given: dict[str, Any] = {"model": model, "messages": list(messages), "add_generation_prompt": True}
        rendered = self._offered("/apply-template", {"messages": list(messages)}, _Prompt)
        if rendered is not None:
            given = {"content": rendered.prompt, "add_special": True, "parse_special": True}
        found = self._offered("/tokenize", given, _Tokens)
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
            status, content = self._request("POST", path, asked)
            self._has_chat = status not in (404, 405)
        if not self._has_chat:
            path = "/v1/completions"
            status, content = self._request("POST", path, {**body, "prompt": list(ids)})
        self._check_status(path, status, content)
        found = self._parse(path, content, _Completion)
        choice = found.choices[0]
        if (choice.message if self._has_chat else choice.text) is None:
            raise self._error(path, "the reply holds no answer")
        text = choice.message.content if self._has_chat and choice.message else choice.text
        if len(text or "") > LONGEST_TOKEN * max_tokens:
            raise self._error(path, f"{len(text or '')} characters are no answer of {max_tokens} tokens")
        counted = found.usage.prompt_tokens if found.usage and self._has_chat else None
        seen = found.prompt_token_ids if self._has_chat else None
        stopped = {"stop": True, "length": False}.get(choice.finish_reason or "")
        return ServedAnswer((text or "").strip(), stopped, counted, None if seen is None else tuple(seen))

    def _offered(self, path: str, body: dict[str, Any], kind: type[_Any]) -> _Any | None:
        status, content = self._request("POST", path, body)
        if status in NOT_OFFERED:
            return None
        self._check_status(path, status, content)
        try:
            return kind.model_validate_json(content)
        except ValidationError:  # the path means something else there
            return None

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        content = None if body is None else to_json(body).encode("utf-8")
        headers = {} if body is None else {"Content-Type": "application/json"}
        received = bytearray()
        try:
            with (
                time_limit(self._seconds),  # httpx's own limit is that of each read
                self._client.stream(method, self._url + path, content=content, headers=headers) as reply,
            ):
                for chunk in reply.iter_raw():
                    received += chunk
                    if len(received) > MOST_BYTES:
                        raise self._error(path, f"the reply has more than {MOST_BYTES} bytes")
                return reply.status_code, bytes(received)
        except (TookTooLong, httpx2.TimeoutException) as error:
            raise self._error(path, f"no whole reply in {self._seconds:g} seconds") from error
        except (httpx2.HTTPError, OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise self._error(path, reason(error)) from error

    def _check_status(self, path: str, status: int, content: bytes) -> None:
        if status in (401, 403):
            raise UserError(f"{self._url}{path}: status {status}; set QDSFT_SERVE_TOKEN to the token of this server")
        if status != 200:
            said = cut(content[:400].decode("utf-8", "replace").strip(), 200)
            raise self._error(path, f"status {status}{f': {said}' if said else ''}")

    def _parse(self, path: str, content: bytes, kind: type[_Any]) -> _Any:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the reply"
            raise self._error(path, f"{place}: {first['msg']}") from error

    def _error(self, path: str, what: str) -> UserError:
        return UserError(f"{self._url}{path}: {what}; check that an OpenAI-compatible server runs there")


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


def _checked(url: str) -> str:
    try:
        found = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise UserError(f"--endpoint {url}: {reason(error)}; write http://HOST:PORT") from error
    if found.scheme not in ("http", "https") or not found.host or found.query or found.fragment:
        raise UserError(f"--endpoint {url}: no address of a server; write http://HOST:PORT")
    if found.userinfo:
        raise UserError("--endpoint: the URL holds a password; set QDSFT_SERVE_TOKEN to the token of the server")
    return str(found).rstrip("/").removesuffix("/v1")


def _is_local(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return host in LOCAL_NAMES or ip_address(host).is_loopback
    except ValueError:
        return False
