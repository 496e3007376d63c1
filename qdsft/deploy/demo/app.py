"""Stage: a web page that shows finished runs, and their base model, decompose questions as they write."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from qdsft.console import say
from qdsft.data.references import has_hangul
from qdsft.deploy.demo.page import render_page, script, style
from qdsft.deploy.demo.queue import Answering, Event
from qdsft.deploy.listening import listen, reachable
from qdsft.errors import UserError
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.side_by_side import load_columns
from qdsft.runs.eval_rows import read_eval_rows

LARGEST_REQUEST = 200_000
"""Bytes."""
EXAMPLES = {
    "en": [
        "Who is older, the director of Jaws or the director of Alien?",
        "How many films has the author of the novel The Shining directed?",
        "Which of the countries that border France has the most inhabitants?",
    ],
    "ko": [
        "기생충의 감독과 올드보이의 감독 중 누가 더 나이가 많나요?",
        "한국에서 가장 높은 산이 있는 섬의 인구는 몇 명인가요?",
        "프랑스와 국경을 맞댄 나라 중 인구가 가장 많은 나라는 어디인가요?",
    ],
}
"""Questions for a run that has no held-out ones in a language."""
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1", "[::1]")
_EACH = 3
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def demo(run_dirs: Sequence[Path], *, host: str, port: int, base: bool, constrained: bool) -> None:
    """Show the page until Ctrl-C; port 0 is any free one.

    Raises UserError if nothing can listen there, for a run that cannot answer as it was trained (see `load_prompts`),
    and as `LoadedRun.grammar` does if `constrained`.
    """
    with listen(host, port) as listener:
        columns = load_columns(run_dirs, base=base)
        if constrained:
            for column in columns:
                column.run.grammar  # noqa: B018 - fails now rather than at the first question
        answering = Answering(columns, constrained=constrained)
        number = listener.getsockname()[1]
        is_local = _is_loopback(listener)
        names = [column.name for column in columns]
        page = render_page(", ".join(names), names, examples(columns[0].run))
        app = make_app(answering, page, hosts=[*LOCAL_NAMES, host] if is_local else ["*"])
        if not is_local:
            address = f"http://{socket.gethostname()}:{number}"
            say(f"warning: everyone in the network can use this page ({address}): there is no password, no encryption")
        say(f"open http://{reachable(host)}:{number} (Ctrl-C ends)")
        _serve(app, listener, answering)
    say("\nended")


def examples(run: LoadedRun) -> dict[str, list[str]]:
    """Language -> questions to try: held-out ones of the run, which it was not trained on, or else EXAMPLES."""
    columns = run.task.columns
    found: dict[str, list[str]] = {"en": [], "ko": []}
    try:
        for example in read_eval_rows(run.run_dir, 1000):
            row = {name: example.record.row.get(name) for name in columns}
            text = str(row[columns[0]]) if len(columns) == 1 else json.dumps(row, ensure_ascii=False, default=str)
            language = found["ko" if has_hangul(text) else "en"]
            if len(language) < _EACH and text not in language:
                language.append(text)
    except UserError:  # a run without its held-out rows answers all the same
        pass
    return {language: questions or EXAMPLES[language] for language, questions in found.items()}


def make_app(answering: Answering, page: str, *, hosts: Sequence[str]) -> Starlette:
    """The web application: the page, its files, and POST /answer, which streams one JSON object a line.

    `hosts` are the names under which a browser may ask, so that no other site can have its own name point here.
    """

    def file(content: str, media_type: str) -> Any:
        async def endpoint(_: Request) -> Response:
            return Response(content, media_type=media_type, headers=_HEADERS)

        return endpoint

    async def answer(request: Request) -> Response:
        # A page of another site may not send JSON here without asking first, which is not answered.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refusal("the request is not JSON", 415)
        try:
            question, columns = await _read_question(request)
            events = answering.stream(question, columns)
            first = await anext(events)
        except UserError as error:
            return _refusal(str(error), 400)
        return StreamingResponse(_lines(first, events), media_type="application/x-ndjson", headers=_HEADERS)

    routes = [
        Route("/", file(page, "text/html")),
        Route("/style.css", file(style(), "text/css")),
        Route("/script.js", file(script(), "text/javascript")),
        Route("/answer", answer, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))])


async def _read_question(request: Request) -> tuple[str, list[int]]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_REQUEST:
            raise UserError("the question is too long; shorten it")
    try:
        asked = json.loads(body)
        question, columns = asked["question"], asked["columns"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError('the request is not {"question": text, "columns": [number, ...]}') from error
    if not isinstance(question, str) or not isinstance(columns, list) or not all(type(n) is int for n in columns):
        raise UserError('the request is not {"question": text, "columns": [number, ...]}')
    return question, columns


async def _lines(first: Event, events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    try:
        yield json.dumps(first) + "\n"
        async for event in events:
            yield json.dumps(event) + "\n"
    finally:
        await events.aclose()  # now, and not when the collector finds it


def _refusal(message: str, status: int) -> Response:
    return JSONResponse({"kind": "error", "message": message}, status_code=status, headers=_HEADERS)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, answering: Answering) -> None:
        super().__init__(config)
        self._answering = answering

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is being decoded, which the server would else wait for."""
        self._answering.close()
        await super().shutdown(sockets)


def _serve(app: Starlette, listener: socket.socket, answering: Answering) -> None:
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=2, server_header=False
    )
    try:
        _Server(config, answering).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again once it has ended
        pass
    finally:
        answering.close()


def _is_loopback(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0]).is_loopback
