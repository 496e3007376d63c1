"""`qdsft serve`: serve a run with an OpenAI-compatible server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from qdsft.cli.arguments import add_trust, port
from qdsft.console import print_result
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve` to the commands."""
    serve = commands.add_parser(
        "serve",
        help="answer requests through an OpenAI-compatible server",
        usage="qdsft serve RUN_DIR [--engine vllm|transformers] [--host HOST] [--port PORT] [-- ENGINE ARGUMENTS]",
        description="Start vLLM's or transformers' OpenAI-compatible server with a run's template, weights and stop "
        "tokens. Arguments after -- are passed to the server.",
    )
    serve.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory, or what qdsft merge wrote")
    serve.add_argument(
        "--engine", choices=("transformers", "vllm"), default="transformers", help="the server (transformers)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    serve.add_argument("--port", type=port, default=8000, help="port to listen on (8000)")
    serve.add_argument("--request", metavar="QUESTION", help="only print the request that asks this question, as JSON")
    serve.add_argument(
        "--constrained",
        action="store_true",
        help="let every answer be a valid decomposition; a request's response_format can ask for it or for free text",
    )
    serve.add_argument(
        "--only-decompositions", action="store_true", help="refuse messages that are not the recipe's prompt"
    )
    add_trust(serve)
    serve.set_defaults(handler=_serve)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (arguments for qdsft, arguments for the engine): those of `qdsft serve` after -- belong to the engine."""
    given = list(arguments)
    if given[:1] != ["serve"] or "--" not in given:
        return given, []
    return given[: given.index("--")], given[given.index("--") + 1 :]


def _serve(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    manifest = read_finished(options.run_dir)
    from qdsft.deploy.chat_rules import Answers
    from qdsft.deploy.serve import make_request, serve

    if options.request is not None:
        request = make_request(
            options.run_dir,
            options.request,
            manifest,
            constrained=options.constrained,
            trust_remote_code=options.trust_remote_code,
        )
        print_result(to_json(request))
        return 0
    return serve(
        options.run_dir,
        engine=options.engine,
        host=options.host,
        port=options.port,
        extra=options.extra,
        answers=Answers(options.constrained, options.only_decompositions),
        manifest=manifest,
        trust_remote_code=options.trust_remote_code,
    )
