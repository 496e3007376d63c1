#!/usr/bin/env python3
"""Ask a run that `qdsft serve` serves, with OpenAI's client: whole answers, or pieces as they are decoded.

Needs `pip install openai`, and the run directory for its prompt. QDSFT_SERVE_TOKEN is sent as the token.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai

from qdsft.data.decomposition import Decomposition
from qdsft.deploy.serve import make_request


def answer(client: openai.OpenAI, body: dict[str, Any]) -> str:
    """Return the whole answer to a request."""
    return client.chat.completions.create(**body).choices[0].message.content or ""


def stream(client: openai.OpenAI, body: dict[str, Any]) -> Iterator[str]:
    """Yield the answer to a request in pieces."""
    for chunk in client.chat.completions.create(**body, stream=True):
        if chunk.choices:  # a last chunk may have the token counts alone
            yield chunk.choices[0].delta.content or ""


def main() -> int:
    """Print the answer; returns 1 if it is not a valid decomposition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("question")
    parser.add_argument("--endpoint", default="http://127.0.0.1:8000", metavar="URL")
    parser.add_argument("--stream", action="store_true", help="print the answer while it is decoded")
    options = parser.parse_args()
    client = openai.OpenAI(base_url=f"{options.endpoint}/v1", api_key=os.environ.get("QDSFT_SERVE_TOKEN") or "none")
    body = make_request(options.run_dir, options.question)
    pieces = []
    for piece in stream(client, body) if options.stream else [answer(client, body)]:
        print(piece, end="", flush=True)
        pieces.append(piece)
    print()
    problems = Decomposition.parse("".join(pieces)).problems()
    if problems:
        print(f"not a valid decomposition: {'; '.join(problems)}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
