"""`qdsft merge`: merge an adapter into its base model."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from qdsft.cli.arguments import add_trust, positive
from qdsft.console import print_result, say


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `merge` to the commands."""
    merge = commands.add_parser(
        "merge",
        help="merge a run's adapter into its base model, and measure whether they agree",
        description="Merge a run's adapter into its base model, in float32 and cast once, and measure on held-out "
        "questions whether the merged model agrees with the adapter as it was trained.",
    )
    merge.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    merge.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new folder for the merged model")
    merge.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        default="bfloat16",
        help="of the merged model (bfloat16)",
    )
    merge.add_argument(
        "--base",
        choices=("auto", "original", "dequantized"),
        default="auto",
        help="for a run on a quantized base: base to merge into (auto: the one that agrees better)",
    )
    merge.add_argument("--samples", type=positive, default=32, metavar="N", help="held-out rows to compare (32)")
    merge.add_argument("--batch-size", type=positive, metavar="N", help="rows to decode at once")
    merge.add_argument("--no-check", action="store_true", help="skip the comparison, which requires the most memory")
    add_trust(merge)
    merge.set_defaults(handler=_merge)


def _merge(options: argparse.Namespace) -> int:
    from qdsft.files import refuse_existing_folder
    from qdsft.runs.manifest import read_adapter_run

    manifest = read_adapter_run(options.run_dir)
    refuse_existing_folder(options.output)
    from qdsft.deploy.merge import merge

    found = merge(
        options.run_dir,
        options.output,
        dtype=options.dtype,
        base=options.base,
        samples=options.samples,
        batch_size=options.batch_size,
        check=not options.no_check,
        manifest=manifest,
        trust_remote_code=options.trust_remote_code,
    )
    for base, figures in found.candidates.items():
        logits, answers = figures.logits, figures.answers
        scores = ", ".join(f"{name} {change.difference:+.3f}" for name, change in figures.scores.items())
        print_result(
            f"{base:<12} mean KL {logits.mean_kl:.2g} nats, largest logit difference "
            f"{logits.largest_difference:.2g}, {answers.identical:.0%} of {answers.compared} answers equal"
            + (f"; {scores}" if scores else "")
        )
    verdict = {
        True: "agrees with the adapter",
        False: "NOT PASSED: " + "; ".join(found.failed),
        None: "not measured",
    }
    print_result(f"{options.output}: {found.base} base, {found.dtype}, {verdict[found.passed]}")
    if found.passed:
        say(f"next: qdsft push {shlex.quote(str(options.output))} --repo-id user/name")
    return 0
