"""Answer the steps of synthetic rows one after another, from their sentences and the facts alone.

The interpreter shares only the tables of the world with the generator: no programs, no words, no particles. The
patterns say a second time what a sentence means, so the steps and answers of the generator are tested by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from qdsft.data.synth.english_rules import english_rules
from qdsft.data.synth.korean_rules import korean_rules
from qdsft.data.synth.step_operations import Rule, StepOperations

LONGEST_STEP = 1000
"""Characters. No step of the world is as long, and patterns take quadratic time."""


class CannotAnswer(Exception):
    """A step that no pattern reads, or that asks for what its subject does not have."""


class Interpreter(StepOperations):
    """Answers the steps of one language."""

    def __init__(self, language: str) -> None:
        super().__init__(language)
        self._rules = _compiled(language)

    def answer(self, steps: Sequence[str]) -> Any:
        """Return the answer of the last step: a name, a number, a boolean, a tuple of names, or name -> number.

        Raises CannotAnswer for a step that is not in the language of the world, or not about an earlier answer.
        """
        self._answers = []
        for step in steps:
            self._answers.append(self._step(step))
        if not self._answers:
            raise CannotAnswer("there are no steps")
        return self._answers[-1]

    def _step(self, step: str) -> Any:
        for pattern, handler in self._rules if len(step) <= LONGEST_STEP else ():
            if found := pattern.fullmatch(step):
                try:
                    return handler(self, **found.groupdict())
                except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
                    raise CannotAnswer(f"{step}: {error!r}") from error
        raise CannotAnswer(f"{step}: not understood")


def agrees(found: Any, answer: Any) -> bool:
    """Return whether an interpreted answer is the `answer` of a row; sets have no order."""
    if isinstance(found, tuple):
        return isinstance(answer, list) and len(found) == len(answer) and set(found) == set(answer)
    return type(found) is type(answer) and bool(found == answer)


@cache
def _compiled(language: str) -> list[tuple[re.Pattern[str], Any]]:
    rules: list[Rule] = korean_rules() if language == "ko" else english_rules()
    return [(re.compile(pattern), handler) for pattern, handler in rules]
