"""Ask llama.cpp for the token ids and answers of a GGUF file.

llama.cpp runs in a separate process, because it aborts on a damaged file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from qdsft.data.prompt import Message
from qdsft.errors import UserError

SECONDS = 1800
LAST_LINES = 3


@dataclass(frozen=True)
class Reply:
    """llama.cpp's reading of a conversation."""

    ids: list[int]
    """Token ids of the prompt."""
    answer: str | None


def is_installed() -> bool:
    """Return whether the Python bindings of llama.cpp are installed."""
    return find_spec("xllamacpp") is not None


def ask(path: Path, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int = 0) -> list[Reply]:
    """Return llama.cpp's reply to each conversation, with a greedy answer if `max_new_tokens` is not 0.

    Raises UserError if llama.cpp cannot load the file.
    """
    given = json.dumps([list(conversation) for conversation in conversations])
    command = [sys.executable, "-m", "qdsft.deploy.gguf.llama_cpp", str(path), str(max_new_tokens)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    if done.returncode:
        said = " / ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        raise UserError(f"{path}: llama.cpp cannot use the file: {said[-300:]}")
    return [Reply(**reply) for reply in json.loads(done.stdout.splitlines()[-1])]


def _main(path: str, max_new_tokens: int) -> None:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = path
    options.n_parallel, options.warmup, options.use_jinja, options.port = 1, False, True, 0
    options.n_ctx = 4096
    server = xllamacpp.Server(options)

    def post(route: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    found = []
    for messages in json.load(sys.stdin):
        text = post("/apply-template", {"messages": messages})["prompt"]
        ids = post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        answer = None
        if max_new_tokens:
            body = {"messages": messages, "temperature": 0, "max_tokens": max_new_tokens}
            answer = post("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        found.append({"ids": ids, "answer": answer})
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
