#!/usr/bin/env python3
"""Ask `qdsft serve` many questions at once, and compare every answer with that of `qdsft decompose --constrained`.

    python benchmarks/serving.py outputs/tiny-full --answers 1000 --clients 20

The first part asks for constrained answers, half of them streamed. In the second part of 200 requests, every tenth
client sends its request slowly, every tenth leaves in the middle of its request, and every tenth leaves before the
answer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from commands import ROOT
from qdsft.data.decomposition import Decomposition
from qdsft.data.synth import generate_mixed
from qdsft.deploy.chat_rules import DECOMPOSITION
from qdsft.deploy.served_folder import served_name
from qdsft.inference.loaded_run import LoadedRun, load_run

Client = Literal["plain", "streams", "slow", "leaves early", "leaves"]
SLOW_SECONDS = 0.5
"""Pause of a slow client in the middle of its request."""
LOAD: tuple[Client, ...] = ("plain", "streams", "slow", "leaves early", "leaves", *("plain", "streams") * 2, "plain")


@dataclass(frozen=True)
class Reply:
    """What a client got. `text` is None for a client that left."""

    client: Client
    status: int
    text: str | None
    seconds: float


@contextmanager
def served(run_dir: Path, *arguments: str) -> Iterator[str]:
    """Start `qdsft serve RUN_DIR` in a separate process; yields its address when it is up."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "qdsft", "serve", str(run_dir), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(process.communicate()[1])
                time.sleep(0.1)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def ask(address: str, body: dict[str, Any], client: Client) -> Reply:
    """Send one request as this kind of client does."""
    start = time.perf_counter()
    content = json.dumps({**body, "stream": client == "streams"}).encode()
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
    connection.putrequest("POST", "/v1/chat/completions")
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content))}.items():
        connection.putheader(name, value)
    connection.endheaders(content[: len(content) // 2])
    if client == "slow":
        time.sleep(SLOW_SECONDS)
    if client != "leaves early":
        connection.send(content[len(content) // 2 :])
    if client.startswith("leaves"):
        connection.close()
        return Reply(client, 0, None, time.perf_counter() - start)
    reply = connection.getresponse()
    answer = reply.read().decode()
    connection.close()
    text = ""
    if reply.status == 200:
        parts = [line[6:] for line in answer.splitlines() if line.startswith("data: {")] if client == "streams" else []
        choices = [json.loads(part)["choices"][0]["delta"] for part in parts]
        choices = choices if client == "streams" else [json.loads(answer)["choices"][0]["message"]]
        text = "".join(choice.get("content") or "" for choice in choices).strip()
    return Reply(client, reply.status, text, time.perf_counter() - start)


def ask_all(
    address: str, bodies: Sequence[dict[str, Any]], kinds: Sequence[Client], clients: int
) -> tuple[list[Reply], float]:
    """Return the reply to each request, with this many clients at once, and the seconds that all took."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(lambda i: ask(address, bodies[i], kinds[i % len(kinds)]), range(len(bodies))))
    return replies, time.perf_counter() - start


def make_bodies(run: LoadedRun, questions: Sequence[str], *, constrained: bool) -> list[dict[str, Any]]:
    """Return a chat request for each question."""
    body: dict[str, Any] = {"model": served_name(run.run_dir), "temperature": 0, "max_tokens": run.max_new_tokens}
    body |= {"response_format": DECOMPOSITION} if constrained else {}
    return [{**body, "messages": run.task.messages(run.task.typed_record(question))} for question in questions]


def answers_of(run: LoadedRun, questions: Sequence[str], *, constrained: bool) -> list[str]:
    """Return what `qdsft decompose` answers to each question."""
    messages = [run.task.messages(run.task.typed_record(question)) for question in questions]
    return [answer.text for answer in run.answer(messages, batch_size=16, constrained=constrained)]


def make_questions(number: int) -> list[str]:
    """Return synthetic questions, in English and Korean."""
    return [row["question"] for row in islice(generate_mixed(["en", "ko"], number, 1, 3), number)]


def report(name: str, replies: Sequence[Reply], expected: Sequence[str], seconds: float) -> list[str]:
    """Return the row of a table, for the clients that waited."""
    waited = [(reply, text) for reply, text in zip(replies, expected, strict=True) if reply.text is not None]
    answered = [(reply, text) for reply, text in waited if reply.status == 200]
    same = sum(reply.text == text for reply, text in answered)
    invalid = sum(not Decomposition.parse(reply.text or "").is_valid for reply, _ in answered)
    times = sorted(reply.seconds for reply, _ in answered)
    cells: list[Any] = [
        name,
        len(replies),
        len(waited),
        len(answered),
        same,
        invalid,
        f"{statistics.median(times):.2f}",
    ]
    return [*map(str, cells), f"{times[-1]:.2f}", f"{len(answered) / seconds:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--load", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    options = parser.parse_args()
    run = load_run(options.run_dir)
    questions = make_questions(max(options.answers, options.load))
    rows = []
    with served(options.run_dir) as address:
        asked = questions[: options.answers]
        bodies = make_bodies(run, asked, constrained=True)
        replies, seconds = ask_all(address, bodies, ("plain", "streams"), options.clients)
        rows.append(report("constrained", replies, answers_of(run, asked, constrained=True), seconds))
        asked = questions[: options.load]
        replies, seconds = ask_all(address, make_bodies(run, asked, constrained=False), LOAD, options.clients)
        rows.append(report("load", replies, answers_of(run, asked, constrained=False), seconds))
    heads = [
        "requests",
        "sent",
        "waited",
        "answered",
        "same text",
        "do not parse",
        "median s",
        "longest s",
        "answers/s",
    ]
    print(f"{options.clients} clients, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, {run.machine.name}\n")
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
