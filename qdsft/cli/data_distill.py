"""`qdsft data distill`: a data set from a user's own questions and a teacher model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdsft.cli.arguments import number, positive, share
from qdsft.console import print_note, print_result, say
from qdsft.environment import variable
from qdsft.errors import UserError, reason
from qdsft.strict_json import to_json

if TYPE_CHECKING:
    from qdsft.deploy.distill import Questions, Spent
    from qdsft.deploy.teacher import Teacher

TOKEN = "QDSFT_TEACHER_TOKEN"
"""Environment variable with the token of the teacher's server."""
OWN_FIELDS = {"model", "messages", "n", "stream"}
"""Fields of the request that --fields cannot have."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `distill` under `data`."""
    distill = commands.add_parser(
        "distill",
        help="let a teacher model decompose your own questions",
        description="Ask an OpenAI-compatible server several times for each question, keep the answer that agrees most "
        "with the others, and write the rows that pass qdsft data check. Your questions are sent to --endpoint and "
        f"nowhere else. {TOKEN} is sent as the token, if it is set. The same command resumes after an interruption.",
    )
    distill.add_argument("questions", type=Path, metavar="QUESTIONS", help="JSON Lines, CSV, Parquet, or .txt")
    distill.add_argument("output", type=Path, metavar="OUT", help="a new JSON Lines file")
    distill.add_argument("--endpoint", metavar="URL", help="the server, such as http://127.0.0.1:8000")
    distill.add_argument("--model", required=True, metavar="NAME", help="the server's name of the model")
    distill.add_argument("--eval", type=Path, metavar="FILE", help="held-out rows; no question like theirs is asked")
    distill.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    distill.add_argument("--samples", type=_samples, default=4, metavar="N", help="answers to each question (4)")
    distill.add_argument(
        "--min-agreement", type=share, default=0.6, metavar="SHARE", help="drop questions with less agreement (0.6)"
    )
    distill.add_argument("--prompt", type=Path, metavar="FILE", help="another prompt: text with {{ question }}")
    distill.add_argument("--temperature", type=number, default=0.7, metavar="T", help="of the answers (0.7)")
    distill.add_argument("--max-tokens", type=positive, default=512, metavar="N", help="longest answer (512)")
    distill.add_argument(
        "--fields",
        type=_fields,
        default={},
        metavar="JSON",
        help="other fields of the request; null leaves a field out",
    )
    distill.add_argument("--workers", type=positive, default=4, metavar="N", help="requests at the same time (4)")
    distill.add_argument("--timeout", type=positive, default=120, metavar="SECONDS", help="for one answer (120)")
    distill.add_argument("--price-input", type=number, metavar="P", help="price of a million prompt tokens")
    distill.add_argument("--price-output", type=number, metavar="P", help="price of a million answer tokens")
    distill.set_defaults(handler=_distill)


def _distill(options: argparse.Namespace) -> int:
    from qdsft.data.prompt import TEACHER
    from qdsft.deploy.distill import distill, read_to_ask
    from qdsft.deploy.endpoint import Endpoint
    from qdsft.deploy.teacher import Teacher
    from qdsft.recipe.load import read_text

    prompt = TEACHER if options.prompt is None else read_text(options.prompt)
    settings = (options.samples, options.temperature, options.max_tokens, options.fields)
    teacher = Teacher(options.model, prompt, *settings)
    if options.endpoint is None and not options.dry_run:
        raise UserError("--endpoint is missing, so nothing is sent; give the server's URL, or --dry-run")
    endpoint = None
    if options.endpoint is not None:
        endpoint = Endpoint(options.endpoint, token_name=TOKEN, seconds=options.timeout)
    questions = read_to_ask(options.questions, teacher, options.eval)
    if endpoint is None or options.dry_run:
        _print_plan(options, teacher, questions)
        return 0
    try:
        report = distill(
            questions, options.output, endpoint, teacher, least=options.min_agreement, workers=options.workers
        )
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to resume")
        return 130
    for error in report.dropped:
        print_note(f"dropped: {error}")
    kinds = ", ".join(f"{kind}: {count}" for kind, count in report.kinds().most_common())
    dropped = f"{len(report.dropped)} dropped" + (f" ({kinds})" if kinds else "")
    print_result(f"{report.written} rows written to {options.output}, {dropped}")
    print_result(_cost(options, report.spent))
    return 0


def _print_plan(options: argparse.Namespace, teacher: Teacher, questions: Questions) -> None:
    from qdsft.deploy.distill import answered

    for error in questions.left_out:
        print_note(f"not sent: {error}")
    count = len(questions.records)
    known = answered(questions, options.output, teacher)
    texts = [message["content"] for messages in questions.messages.values() for message in messages]
    print_result(f"nothing is sent; without --dry-run, {options.endpoint or 'the server in --endpoint'} would get:")
    print_result(f"questions          {count:>9}  {len(questions.left_out)} left out")
    print_result(f"requests           {count * teacher.samples:>9}  {known} of them are answered already")
    print_result(f"prompt characters  {sum(map(len, texts)) * teacher.samples:>9}")
    most = count * teacher.samples * teacher.max_tokens
    price = f", which cost {most * options.price_output / 1e6:.2f}" if options.price_output is not None else ""
    print_result(f"answer tokens      {most:>9}  at most{price}")
    print_result(f"token              {'sent, from ' + TOKEN if variable(TOKEN) else f'none; {TOKEN} is not set'}")
    first = next(iter(questions.messages.values()))
    print_result(f"the first request:\n{to_json(teacher.body(first), indent=2)}")


def _cost(options: argparse.Namespace, spent: Spent) -> str:
    """Return the tokens and what they cost, in one line."""
    line = f"{spent.answers} answers, {spent.prompt_tokens} prompt tokens, {spent.completion_tokens} answer tokens"
    if spent.uncounted:
        line += f" (the server counted none for {spent.uncounted} answers)"
    if options.price_input is None or options.price_output is None:
        return f"{line}; for the cost, give --price-input and --price-output"
    cost = (spent.prompt_tokens * options.price_input + spent.completion_tokens * options.price_output) / 1e6
    return f"{line}, which cost {cost:.4f}"


def _samples(text: str) -> int:
    """Return a whole number above 1; argparse reports anything else as wrong usage."""
    number = positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{text!r} answers cannot agree; give 2 or more")
    return number


def _fields(text: str) -> dict[str, Any]:
    """Return a JSON object without the fields that qdsft sets; argparse reports anything else as wrong usage."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {reason(error)}") from error
    if not isinstance(value, dict) or OWN_FIELDS & value.keys():
        raise argparse.ArgumentTypeError(f"write a JSON object without the fields {', '.join(sorted(OWN_FIELDS))}")
    return value
