"""`qdsft improve`: train a run again on the best of its samples."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.cli.arguments import add_trust, positive, share, temperature
from qdsft.console import print_result, say
from qdsft.errors import Interrupted


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `improve` to the commands."""
    improve = commands.add_parser(
        "improve",
        help="train a run again on the best of its samples, and compare both runs",
        description="Sample decompositions of a run's training questions, keep those that retrieve or execute best, "
        "train again from the base by the same recipe, and compare both runs on the held-out rows. The same command "
        "resumes an interrupted one.",
    )
    improve.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    goal = improve.add_mutually_exclusive_group(required=True)
    goal.add_argument("--corpus", type=Path, metavar="CORPUS", help="score by retrieval in this file of passages")
    goal.add_argument("--world", action="store_true", help="score by execution over the world of qdsft data synth")
    improve.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for data and run (default: RUN_DIR-improved)"
    )
    improve.add_argument("--samples", type=positive, default=8, metavar="K", help="samples a question (default: 8)")
    improve.add_argument("--temperature", type=temperature, default=0.8, metavar="T", help="default: 0.8")
    improve.add_argument("--top-p", type=share, default=0.95, metavar="P", help="default: 0.95")
    improve.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the samples (default: 0)")
    improve.add_argument(
        "--keep",
        choices=("better", "equal"),
        help="better: a sample replaces the steps of a row if it scores higher (default with --corpus); equal: also if "
        "it scores as high with no more steps (default with --world)",
    )
    improve.add_argument(
        "--limit", type=positive, metavar="N", help="sample at most N questions; the other rows keep their steps"
    )
    improve.add_argument("--batch-size", type=positive, default=64, metavar="N", help="samples at once (default: 64)")
    improve.add_argument("--sample-only", action="store_true", help="stop when the data set is written")
    add_trust(improve)
    improve.set_defaults(handler=_improve)


def _improve(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    read_finished(options.run_dir)
    from qdsft.inference.sample import SampleSettings
    from qdsft.scoring.report.compare_page import comparison_lines
    from qdsft.training.improve import improve

    folder = options.run_dir.absolute()
    settings = SampleSettings(options.samples, options.temperature, options.top_p, options.seed, options.batch_size)
    try:
        done = improve(
            options.run_dir,
            options.output or options.run_dir.parent / f"{folder.name}-improved",
            corpus=options.corpus,
            keep=options.keep,
            settings=settings,
            limit=options.limit,
            sample_only=options.sample_only,
            trust_remote_code=options.trust_remote_code,
        )
    except (Interrupted, KeyboardInterrupt) as error:
        say("\ninterrupted; run the same command again to resume")
        return error.status if isinstance(error, Interrupted) else 130
    counts = done.counts
    print_result(
        f"{counts.replaced} of {counts.rows} training rows replaced, by {counts.samples} samples of {counts.asked} "
        f"questions ({counts.usable} usable)"
    )
    if done.comparison is None:
        say(f"data set: {done.files.train}; run the same command without --sample-only to train on it")
        return 0
    for line in comparison_lines(done.comparison):
        print_result(line)
    print_result(str(done.verdict))
    say(f"new run: {done.files.run}; data set: {done.files.train}")
    return 0
