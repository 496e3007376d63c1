"""`qdsft doctor`: check that this machine can train, and train this recipe."""

from __future__ import annotations

import argparse

from qdsft.console import has_colour, print_result, visible
from qdsft.errors import UserError
from qdsft.strict_json import to_json

COLOURS = {"ok": "\033[32m", "note": "\033[33m", "failed": "\033[31m"}
RESET = "\033[0m"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the commands."""
    doctor = commands.add_parser(
        "doctor",
        help="check driver, GPUs, packages, disk and Hub, and print remedies",
        description="Check driver, GPUs, packages, disk and Hub. Notes do not prevent training: without a GPU "
        "everything works, slowly. The exit status is 1 if a check failed. Tokens are never printed.",
    )
    doctor.add_argument("recipe", nargs="?", metavar="RECIPE", help="also check what this recipe requires")
    doctor.add_argument("overrides", nargs="*", metavar="section.key=value", help="override values of the recipe")
    doctor.add_argument("--json", action="store_true", help="print everything as JSON, for a bug report")
    doctor.set_defaults(handler=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Print the findings one by one. Raises UserError at the end if a check failed."""
    from qdsft.planning.doctor.doctor import examine

    colour = not options.json and has_colour()
    findings = []
    for finding in examine(options.recipe, options.overrides):
        findings.append(finding)
        if options.json:
            continue
        word = f"{finding.status.replace('failed', 'FAILED'):<6}"
        word = f"{COLOURS[finding.status]}{word}{RESET}" if colour else word
        print(f"{finding.name:<12} {word}  {visible(str(finding))}", flush=True)
    failed = sum(finding.status == "failed" for finding in findings)
    if options.json:
        from qdsft.runs.provenance import versions

        report = {"versions": versions(), "findings": [finding.to_json() for finding in findings]}
        print_result(to_json(report, indent=2))
    if failed:
        raise UserError(f"{failed} of {len(findings)} checks failed; each says what to do")
    return 0
