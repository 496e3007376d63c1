#!/usr/bin/env python3
"""Answer a question by its sub-questions: `qdsft.execute` puts every answer in the place of its `#n`.

The sub-questions come from a run (`--run`) or from a JSON file with "question" and "sub_questions". What answers them
here is a toy: the fact that shares most words with a sub-question, and a comparison of two numbers. Put a search
engine, a database or a language model in the place of `look_up`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import qdsft
from qdsft.data.decomposition import Decomposition
from qdsft.data.execution import ExecutedStep

HERE = Path(__file__).resolve().parent
UNKNOWN = "unknown"
COMPARISON = re.compile(r"is (-?[\d.]+) (less|greater|more) than (-?[\d.]+)\?", re.IGNORECASE)


def look_up(facts: dict[str, str], question: str) -> str:
    """The answer of the fact that shares most words with the question, or of a comparison; else `unknown`."""
    if numbers := COMPARISON.fullmatch(question.strip()):
        first, second = float(numbers[1]), float(numbers[3])
        return "yes" if (first < second if numbers[2].lower() == "less" else first > second) else "no"
    asked = words(question)
    best = max(facts, key=lambda fact: len(words(fact) & asked), default="")
    return facts[best] if len(words(best) & asked) >= 2 else UNKNOWN


def words(text: str) -> set[str]:
    """The words of a text, without case and endings: enough for a toy."""
    return {word[:5] for word in re.findall(r"\w+", text.lower()) if len(word) > 2} - {"the", "was", "and"}


def read_decomposition(path: Path) -> tuple[str, Decomposition]:
    """(question, decomposition) of a JSON file, such as `qdsft decompose --json` prints."""
    row = json.loads(path.read_text(encoding="utf-8"))
    return row["question"], Decomposition(tuple(row["sub_questions"]))


@dataclass(frozen=True)
class Example:
    """What an example is about: a question, what decomposes it, and what answers a sub-question."""

    question: str
    decompose: Callable[[str], Decomposition]
    answer: Callable[[str], str]


def read_command_line(description: str | None) -> Example:
    """The question on the command line and a run that decomposes it, or else a decomposition from a file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("question", nargs="?", help="to be decomposed by --run")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run that decomposes the question")
    parser.add_argument("--decomposition", type=Path, default=HERE / "decomposition.json", metavar="FILE")
    parser.add_argument("--facts", type=Path, default=HERE / "facts.json", metavar="FILE", help="JSON: text to answer")
    options = parser.parse_args()
    facts = json.loads(options.facts.read_text(encoding="utf-8"))
    if options.run:
        question = options.question or parser.error("--run needs a question")
        return Example(question, qdsft.Decomposer(options.run), lambda asked: look_up(facts, asked))
    question, decomposition = read_decomposition(options.decomposition)
    return Example(question, lambda _: decomposition, lambda asked: look_up(facts, asked))


def print_steps(steps: Sequence[ExecutedStep]) -> None:
    """Print each step as it was asked, with its answer or why there is none."""
    for one in steps:
        print(f"  {one.number}. {one.asked or one.step} {one.answer or one.error}")


def main() -> int:
    """Returns 1 if the decomposition cannot be executed."""
    example = read_command_line(__doc__)
    print(example.question)
    decomposition = example.decompose(example.question)
    if problems := decomposition.problems():
        print(f"cannot be executed: {'; '.join(problems)}", file=sys.stderr)
        return 1
    print_steps(qdsft.execute(decomposition, example.answer, step_timeout=30).steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
