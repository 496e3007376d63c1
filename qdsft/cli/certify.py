"""`qdsft certify`: find out whether a server serves a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.cli.arguments import add_trust, positive, share
from qdsft.console import print_result
from qdsft.strict_json import to_json


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `certify` to the commands."""
    certify = commands.add_parser(
        "certify",
        help="find out whether a server serves a run",
        description="Ask an OpenAI-compatible server the golden prompts and some held-out rows of a run, and compare "
        "prompt ids, greedy answers, where they stop, their validity and scores with the run's own. Exit status 1 if a "
        "check failed. QDSFT_SERVE_TOKEN is sent as the token, if it is set.",
    )
    certify.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory, or what qdsft merge wrote")
    certify.add_argument("--endpoint", required=True, metavar="URL", help="the server, such as http://127.0.0.1:8000")
    certify.add_argument("--model", metavar="NAME", help="the server's name of the model (default: the run's or only)")
    certify.add_argument("--rows", type=positive, default=32, metavar="N", help="most held-out rows to ask (32)")
    certify.add_argument(
        "--min-identical", type=share, default=0.5, metavar="SHARE", help="lowest share of identical answers (0.5)"
    )
    certify.add_argument("--decode", action="store_true", help="answer with the run here, not from predictions.jsonl")
    certify.add_argument("--json", action="store_true", help="print JSON instead of lines")
    add_trust(certify)
    certify.set_defaults(handler=_certify)


def _certify(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    manifest = read_finished(options.run_dir)
    from qdsft.deploy.certify import certify, report

    found = certify(
        options.run_dir,
        options.endpoint,
        model=options.model,
        rows=options.rows,
        min_identical=options.min_identical,
        decode=options.decode,
        manifest=manifest,
        trust_remote_code=options.trust_remote_code,
    )
    for line in [to_json(found.to_json(), indent=2)] if options.json else report(found):
        print_result(line)
    return 0 if found.passed else 1
