"""`qdsft demo`: open a web page that shows models decompose questions."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from qdsft.cli.arguments import add_trust, port_or_any
from qdsft.console import say
from qdsft.optional_packages import require


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the commands."""
    demo = commands.add_parser("demo", help="open a web page on this machine that shows models decompose questions")
    demo.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    demo.add_argument("others", nargs="*", type=Path, metavar="OTHER_RUN", help="runs to show beside the first")
    demo.add_argument("--base", action="store_true", help="also show the base model before training")
    demo.add_argument("--constrained", action="store_true", help="restrict answers to valid decompositions")
    demo.add_argument("--port", type=port_or_any, default=7860, help="port of the page (7860; 0: any free port)")
    demo.add_argument("--host", default="127.0.0.1", help="127.0.0.1: this machine only; 0.0.0.0: the whole network")
    demo.add_argument("--share", action="store_true", help="open a public tunnel through Gradio's servers to this page")
    demo.add_argument("--export", type=Path, metavar="DIR", help="write a Hugging Face Space to a new folder, and end")
    add_trust(demo)
    demo.set_defaults(handler=_demo)


def _demo(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    run_dirs = [options.run_dir, *options.others]
    for run_dir in run_dirs:
        read_finished(run_dir)
    require("demo", "qdsft demo", "gradio")
    if options.export:
        return _export(options, run_dirs)
    from qdsft.deploy.demo.app import demo

    demo(
        run_dirs,
        host=options.host,
        port=options.port,
        base=options.base,
        constrained=options.constrained,
        share=options.share,
        trust_remote_code=options.trust_remote_code,
    )
    return 0


def _export(options: argparse.Namespace, run_dirs: list[Path]) -> int:
    from qdsft.deploy.demo.space import export_space
    from qdsft.deploy.listening import refuse_open_server

    if options.trust_remote_code:
        refuse_open_server(is_open=True)
    export_space(run_dirs, options.export, base=options.base, constrained=options.constrained)
    say(
        f"wrote {options.export}; upload with: hf upload USER/NAME {shlex.quote(str(options.export))} --repo-type space"
    )
    return 0
