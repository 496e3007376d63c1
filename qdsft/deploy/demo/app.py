"""Serve a web page on which finished runs, and their base model, decompose questions side by side."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import redirect_stdout
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from queue import Queue

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from qdsft.console import say
from qdsft.data.references import has_hangul
from qdsft.deploy.demo.page import FONTS, HEAD, MONOSPACE, Model, build_page
from qdsft.deploy.demo.places import FairPlaces
from qdsft.deploy.listening import LOCAL_NAMES, listen, reachable, refuse_open_server
from qdsft.deploy.whole_body import WholeBody
from qdsft.errors import UserError
from qdsft.inference.generate import Answer
from qdsft.inference.loaded_run import LoadedRun
from qdsft.inference.side_by_side import Column, load_columns
from qdsft.runs.eval_rows import read_eval_rows

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
"""Language -> questions for a run without held-out questions in that language."""
EXAMPLES_EACH = 3


def demo(
    run_dirs: Sequence[Path],
    *,
    host: str,
    port: int,
    base: bool,
    constrained: bool,
    share: bool,
    trust_remote_code: bool = False,
) -> None:
    """Show the page until Ctrl-C; port 0 is any free port.

    Raises UserError if the address cannot be used, if `share` cannot open its tunnel, for a run that cannot answer as
    it was trained (see `load_prompts`), and as `LoadedRun.grammar` does if `constrained`.
    """
    with listen(host, port) as listener:  # a port in use is an error before any weights are loaded
        address, port = listener.getsockname()[:2]
    is_local = ip_address(address).is_loopback
    if trust_remote_code:
        refuse_open_server(is_open=share or not is_local)
    columns = load_columns(run_dirs, base=base, trust_remote_code=trust_remote_code)
    if constrained:
        for column in columns:
            column.run.grammar  # noqa: B018 - fails now and not at the first question
    decoder = Decoder(constrained=constrained)
    models = [Model(one.name, one.run.task, partial(decoder.stream, one)) for one in columns]
    page = build_page(models, examples(columns[0].run))
    if not is_local:
        where = f"http://{socket.gethostname()}:{port}"
        say(f"warning: everyone in the network can use this page ({where}): there is no password and no encryption")
    if share:
        say("warning: --share opens a public tunnel through Gradio's servers; everyone who has its address can use it")
    try:
        launch(page, host, port, [*LOCAL_NAMES, host] if is_local and not share else ["*"], share=share)
        say(f"open {page.share_url or f'http://{reachable(host)}:{port}'} (Ctrl-C ends)")
        while page.is_running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        say("\nended")
    finally:
        decoder.close()
        page.close(verbose=False)


def launch(page: gr.Blocks, host: str, port: int, hosts: list[str], *, share: bool) -> None:
    """Start Gradio's server in a thread. `hosts` are the names under which browsers may ask for the page."""
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
        Middleware(WholeBody),
        Middleware(FairPlaces, page=page),
    ]
    os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("no_proxy"), *LOCAL_NAMES[:2]]))
    try:
        with redirect_stdout(io.StringIO()):  # Gradio reports a failed tunnel in several lines
            page.launch(
                server_name=f"[{host}]" if ":" in host else host,
                server_port=port,
                share=share,
                prevent_thread_lock=True,
                quiet=True,
                run_history=False,
                ssr_mode=False,
                footer_links=["settings"],
                app_kwargs={"middleware": middleware},
                i18n=page.i18n_instance,
                theme=gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=MONOSPACE),
                head=HEAD,
            )
    except OSError as error:
        raise UserError(f"{host}:{port}: the page cannot be served there ({error}); use another --port") from error
    if share and not page.share_url:
        raise UserError("--share: the public tunnel could not be opened; check the connection, or leave out --share")


def examples(run: LoadedRun) -> list[str]:
    """Return questions to try: held-out rows of the run, English then Korean, or EXAMPLES where it has none."""
    columns = run.task.columns
    found: dict[str, list[str]] = {"en": [], "ko": []}
    try:
        for example in read_eval_rows(run.run_dir, 1000):
            row = {name: example.record.row.get(name) for name in columns}
            text = str(row[columns[0]]) if len(columns) == 1 else json.dumps(row, ensure_ascii=False, default=str)
            questions = found["ko" if has_hangul(text) else "en"]
            if len(questions) < EXAMPLES_EACH and text not in questions:
                questions.append(text)
    except UserError:  # a run without its held-out rows can still answer
        pass
    return [text for language, questions in found.items() for text in questions or EXAMPLES[language]]


class _Closed(Exception):
    """The reader of an answer no longer needs it."""


class Decoder:
    """Decodes one answer at a time in a thread, since `LoadedRun.watch` reports each token to a callback."""

    def __init__(self, *, constrained: bool) -> None:
        self._constrained = constrained
        self._decoding = threading.Lock()
        self._ended = threading.Event()

    def stream(self, column: Column, question: str) -> Generator[str | Answer, None, None]:
        """Yield the text written so far, again and again, then the Answer.

        Closing the iterator stops the decoding at the next token. Raises UserError as `LoadedRun.watch` does.
        """
        pieces: Queue[str | Answer | Exception] = Queue()
        closed = threading.Event()

        def on_text(text: str) -> None:
            if closed.is_set() or self._ended.is_set():
                raise _Closed
            pieces.put(text)

        def decode() -> None:
            try:
                with self._decoding, column.ready() as run:
                    messages = run.task.messages(run.task.typed_record(question))
                    pieces.put(run.watch(messages, on_text, constrained=self._constrained))
            except Exception as error:  # raised again by the reader
                pieces.put(error)

        threading.Thread(target=decode, daemon=True).start()
        try:
            piece: str | Answer | Exception = ""
            while isinstance(piece, str):
                piece = pieces.get()
                while isinstance(piece, str) and not pieces.empty():  # skip what a slow page has missed
                    piece = pieces.get()
                if isinstance(piece, _Closed):
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            closed.set()

    def close(self) -> None:
        """Stop the decoding at its next token, and wait for that."""
        self._ended.set()
        self._decoding.acquire(timeout=10)
