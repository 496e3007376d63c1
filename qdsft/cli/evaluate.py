"""`qdsft evaluate`: score a finished run, or predictions of any system."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qdsft.cli.arguments import add_trust, positive
from qdsft.console import is_main_process, print_result, say
from qdsft.errors import UserError

if TYPE_CHECKING:
    from qdsft.runs.results import Results


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `evaluate` to the commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="score a finished run on its held-out rows, or predictions of any system",
        description="Score a finished run on its held-out rows, or, with --predictions and --gold, any system.",
    )
    evaluate.add_argument("run_dir", nargs="?", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--baseline", action="store_true", help="also score the base model with the same prompts")
    evaluate.add_argument(
        "--constrained", action="store_true", help="also score answers that are constrained to valid decompositions"
    )
    evaluate.add_argument("--samples", type=positive, metavar="N", help="score at most N rows")
    evaluate.add_argument(
        "--batch-size", type=positive, metavar="N", help="rows decoded together (default: evaluation.batch_size)"
    )
    evaluate.add_argument("--predictions", type=Path, metavar="P", help="JSON Lines with sub_questions or text, or CSV")
    evaluate.add_argument("--gold", type=Path, metavar="G", help="rows with the gold answers, or BREAK's CSV")
    evaluate.add_argument("--output", type=Path, metavar="DIR", help="a new folder for the scores of --predictions")
    evaluate.add_argument("--break-metrics", action="store_true", help="also compute BREAK's official metrics (slow)")
    evaluate.add_argument(
        "--retrieval", type=Path, metavar="CORPUS", help="also search this file of passages, for rows with evidence"
    )
    evaluate.add_argument(
        "--answers",
        action="store_true",
        help="with --retrieval: replace #n by answers (columns step_answers, reader_answers)",
    )
    evaluate.add_argument(
        "--execute", action="store_true", help="also execute the steps of synthetic rows, and compare their last answer"
    )
    add_trust(evaluate)
    evaluate.set_defaults(handler=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    if options.answers and options.retrieval is None:
        raise UserError("--answers works with --retrieval only; give the corpus, or leave it out")
    if options.predictions is not None or options.gold is not None:
        return _score_files(options)
    if options.run_dir is None:
        raise UserError("nothing to evaluate; give a run directory, or --predictions and --gold")
    if options.output is not None:
        raise UserError("--output works with --predictions only; a run is scored in its own directory")
    from qdsft.runs.layout import REPORT
    from qdsft.runs.manifest import read_finished

    manifest = read_finished(options.run_dir)
    from qdsft.inference.evaluate import evaluate

    try:
        results = evaluate(
            options.run_dir,
            baseline=options.baseline,
            constrained=options.constrained,
            samples=options.samples,
            batch_size=options.batch_size,
            break_metrics=options.break_metrics,
            retrieval=options.retrieval,
            answers=options.answers,
            execute=options.execute,
            manifest=manifest,
            trust_remote_code=options.trust_remote_code,
        )
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to resume")
        return 130
    if is_main_process():
        _print_table(results)
    say(f"report: {options.run_dir / REPORT}")
    return 0


def _score_files(options: argparse.Namespace) -> int:
    from qdsft.scoring.score_files import score_files

    for name, for_runs in (
        ("RUN_DIR", options.run_dir),
        ("--baseline", options.baseline),
        ("--constrained", options.constrained),
        ("--trust-remote-code", options.trust_remote_code),
    ):
        if for_runs:
            raise UserError(f"{name} and --predictions contradict each other; give one of them")
    for name, for_runs in (("--samples", options.samples), ("--batch-size", options.batch_size)):
        if for_runs is not None:
            raise UserError(f"{name} works with a run directory only; leave it out")
    if options.predictions is None or options.gold is None:
        missing = "--gold" if options.gold is None else "--predictions"
        raise UserError(f"{missing} is missing; give the predictions and the gold answers")
    results = score_files(
        options.predictions,
        options.gold,
        output=options.output,
        break_metrics=options.break_metrics,
        retrieval=options.retrieval,
        answers=options.answers,
        execute=options.execute,
    )
    _print_table(results, names={"tuned": "score"})
    if options.output is not None:
        say(f"written to {options.output}")
    return 0


def _print_table(results: Results, names: dict[str, str] | None = None) -> None:
    """Print a row per metric and a column per model, with the 95 % interval of the first model."""
    from qdsft.metrics.catalog import BY_KEY
    from qdsft.runs.card import metric_table
    from qdsft.runs.retrieval_table import RETRIEVAL_HEADS, retrieval_rows

    intervals = next(iter(results.values())).intervals
    by_label = {BY_KEY[name].name: f"{low:.3f} to {high:.3f}" for name, (low, high) in intervals.items()}
    first, *others = ((names or {}).get(name, name) for name in results)
    print_result(f"{'metric':<24}{first:>12}{'95 % interval':>18}" + "".join(f"{name:>12}" for name in others))
    for label, (value, *rest) in metric_table(results):
        line = f"{label:<24}{value:>12}{by_label.get(label, ''):>18}" + "".join(f"{one:>12}" for one in rest)
        print_result(line.rstrip())
    if rows := retrieval_rows(results):
        print_result("\n" + f"{RETRIEVAL_HEADS[0]:<40}" + "".join(f"{head:>18}" for head in RETRIEVAL_HEADS[1:]))
        for name, cells in rows:
            texts = [
                f"{one.mean_text} ({one.difference.mean:+.3f})" if one.difference else one.mean_text for one in cells
            ]
            print_result(f"{name:<40}" + "".join(f"{text:>18}" for text in texts))
