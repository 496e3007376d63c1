#!/usr/bin/env python3
"""A LangChain Runnable: split a question, and answer its steps in the order of their references.

Needs `pip install -e '.[langchain]'`. Steps that do not refer to each other are answered at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from langchain_core.runnables import Runnable, RunnableLambda

import qdsft
from qdsft.data.decomposition import Decomposition
from qdsft.data.execution import Execution


def sub_question_chain(
    decompose: Callable[[str], Decomposition], answer: Runnable[str, str], step_timeout: float | None = None
) -> Runnable[str, Execution]:
    """Return a chain from a question to the answers of its steps.

    `answer` answers one self-contained question: a retrieval chain, an agent, a model. Invoking the chain raises
    `qdsft.errors.UserError` for a decomposition that is not valid.
    """

    def ask(decomposition: Decomposition) -> Execution:
        return qdsft.execute(decomposition, answer.invoke, step_timeout=step_timeout)

    def split(question: str) -> Decomposition:
        return decompose(question)

    return RunnableLambda(split, name="decompose") | RunnableLambda(ask, name="answer steps")


def main() -> int:
    """Print each step with its answer."""
    from agent_loop import print_steps, read_command_line

    example = read_command_line(__doc__)
    chain = sub_question_chain(example.decompose, RunnableLambda(example.answer))
    print_steps(chain.invoke(example.question).steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
