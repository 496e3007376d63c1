#!/usr/bin/env python3
"""A DSPy module: split a question, and answer its steps in the order of their references.

Needs `pip install -e '.[dspy]'`. Steps that do not refer to each other are answered at the same time, with the settings
of the caller (`dspy.context`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import dspy

import qdsft
from qdsft.data.decomposition import Decomposition


class SubQuestions(dspy.Module):
    """Answer a question by its steps.

    `answer` answers one self-contained question, as `dspy.Predict("question -> answer")` does. An optimizer of DSPy
    optimizes `answer`; the run that decomposes stays as it is. Calls raise `qdsft.errors.UserError` for a decomposition
    that is not valid.
    """

    def __init__(self, decompose: Callable[[str], Decomposition], answer: dspy.Module) -> None:
        super().__init__()
        # A function: an optimizer copies a module with everything else that it holds, such as the weights of a run.
        self.decompose = lambda question: decompose(question)
        self.answer = answer

    def forward(self, question: str) -> dspy.Prediction:
        """Return a prediction with answer, steps and errors."""
        found = qdsft.execute(self.decompose(question), lambda asked: str(self.answer(question=asked).answer))
        return dspy.Prediction(answer=found.answer, steps=found.steps, errors=found.errors)


class Function(dspy.Module):
    """A Python function in the place of a language model."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self.function = function

    def forward(self, question: str) -> dspy.Prediction:
        """Return a prediction with the answer."""
        return dspy.Prediction(answer=self.function(question))


def main() -> int:
    """Print each step with its answer."""
    from agent_loop import print_steps, read_command_line

    example = read_command_line(__doc__)
    print_steps(SubQuestions(example.decompose, Function(example.answer))(question=example.question).steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
