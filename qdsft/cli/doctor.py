"""`qdsft doctor`: is this machine fit for training, and for this recipe?"""

from __future__ import annotations

import argparse
import sys

from qdsft.environment import variable
from qdsft.errors import UserError

COLOURS = {"ok": "\033[32m", "note": "\033[33m", "failed": "\033[31m"}
RESET = "\033[0m"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the commands."""
    doctor = commands.add_parser(
        "doctor",
        help="look at driver, cards, packages, disk and Hub, and say what to do",
        description="Look at driver, cards, packages, disk and Hub. Notes are no reason not to train: without a card "
        "everything works, slowly. The status is 1 if something failed. No token is ever printed.",
    )
    doctor.add_argument("recipe", nargs="?", metavar="RECIPE", help="look at what this recipe needs, too")
    doctor.add_argument("overrides", nargs="*", metavar="section.key=value", help="values that replace the recipe's")
    doctor.add_argument("--json", action="store_true", help="everything as JSON, for a bug report")
    doctor.set_defaults(handler=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Print each finding as it is made; raises UserError at the end if one failed."""
    from qdsft.planning.doctor.doctor import examine

    colour = not options.json and sys.stdout.isatty() and not variable("NO_COLOR")
    findings = []
    for finding in examine(options.recipe, options.overrides):
        findings.append(finding)
        if options.json:
            continue
        word = f"{finding.status.replace('failed', 'FAILED'):<6}"
        word = f"{COLOURS[finding.status]}{word}{RESET}" if colour else word
        print(f"{finding.name:<12} {word}  {finding}", flush=True)
    failed = sum(finding.status == "failed" for finding in findings)
    if options.json:
        import json

        from qdsft.runs.provenance import versions

        report = {"versions": versions(), "findings": [finding.to_json() for finding in findings]}
        print(json.dumps(report, indent=2, ensure_ascii=False))
    if failed:
        raise UserError(f"{failed} of {len(findings)} checks failed; each says what to do")
    return 0
