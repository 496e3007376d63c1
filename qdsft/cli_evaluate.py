"""`qdsft evaluate`: score a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.arguments import positive
from qdsft.console import say


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the commands."""
    evaluate = commands.add_parser("evaluate", help="score a finished run on its held-out rows")
    evaluate.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--baseline", action="store_true", help="score the base model with the same prompts too")
    evaluate.add_argument("--samples", type=positive, metavar="N", help="score at most N rows")
    evaluate.add_argument("--batch-size", type=positive, metavar="N", help="rows decoded together")
    evaluate.set_defaults(handler=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from qdsft.run import read_finished

    read_finished(options.run_dir)
    from qdsft.card import metric_table
    from qdsft.evaluate import evaluate

    results = evaluate(
        options.run_dir, baseline=options.baseline, samples=options.samples, batch_size=options.batch_size
    )
    print(f"{'metric':<24}" + "".join(f"{name:>12}" for name in results))
    for label, values in metric_table(results):
        print(f"{label:<24}" + "".join(f"{value:>12}" for value in values))
    say(f"report: {options.run_dir / 'report.html'}")
    return 0
