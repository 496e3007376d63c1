"""`qdsft demo`: a web page on this machine that shows models decompose questions."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from qdsft.cli.arguments import port_or_any
from qdsft.errors import UserError

EVERYONE = "0.0.0.0"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the commands."""
    demo = commands.add_parser("demo", help="open a web page on this machine that shows models decompose questions")
    demo.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    demo.add_argument("others", nargs="*", type=Path, metavar="OTHER_RUN", help="runs to show beside the first")
    demo.add_argument("--base", action="store_true", help="show the base model before training, too")
    demo.add_argument("--constrained", action="store_true", help="allow the models only valid decompositions")
    demo.add_argument("--port", type=port_or_any, default=7860, help="where the page is (7860)")
    demo.add_argument("--host", default="127.0.0.1", help="127.0.0.1: this machine alone; 0.0.0.0: the whole network")
    demo.add_argument(
        "--share",
        dest="host",
        action="store_const",
        const=EVERYONE,
        help="let the whole network use it: --host 0.0.0.0",
    )
    demo.set_defaults(handler=_demo)


def _demo(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    run_dirs = [options.run_dir, *options.others]
    for run_dir in run_dirs:
        read_finished(run_dir)
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UserError("qdsft demo needs starlette and uvicorn; install them with: pip install -e '.[demo]'")
    from qdsft.deploy.demo.app import demo

    demo(run_dirs, host=options.host, port=options.port, base=options.base, constrained=options.constrained)
    return 0
