#!/usr/bin/env python3
"""A Haystack component: split a question, and answer its steps in the order of their references.

Needs `pip install -e '.[haystack]'`. Steps that do not refer to each other are answered at the same time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from haystack import Pipeline, component, default_from_dict, default_to_dict
from haystack.utils import deserialize_callable, serialize_callable

import qdsft
from qdsft.data.decomposition import Decomposition
from qdsft.data.execution import ExecutedStep


@component
class SubQuestionAnswerer:
    """Answer a question by the steps that a run splits it into.

    `answer` answers one self-contained question, for example with another pipeline. To write the pipeline as YAML,
    `answer` has to be a function of a module. The run is loaded by `warm_up`.
    """

    def __init__(self, run_dir: str, answer: Callable[[str], str]) -> None:
        self.run_dir, self.answer = run_dir, answer
        self.decompose: Callable[[str], Decomposition] | None = None

    def warm_up(self) -> None:
        """Load the run, unless something else decomposes."""
        self.decompose = self.decompose or qdsft.Decomposer(self.run_dir, constrained=True)

    @component.output_types(answer=str | None, steps=list[ExecutedStep], errors=list[str])
    def run(self, question: str) -> dict[str, Any]:
        """Return the answer of the last step, all steps, and why steps have no answer."""
        self.warm_up()
        assert self.decompose is not None
        found = qdsft.execute(self.decompose(question), self.answer)
        return {"answer": found.answer, "steps": list(found.steps), "errors": list(found.errors)}

    def to_dict(self) -> dict[str, Any]:
        """Return what a pipeline writes as YAML."""
        return default_to_dict(self, run_dir=self.run_dir, answer=serialize_callable(self.answer))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SubQuestionAnswerer:
        """Return the component of `to_dict`."""
        values = {**data["init_parameters"], "answer": deserialize_callable(data["init_parameters"]["answer"])}
        found: SubQuestionAnswerer = default_from_dict(cls, {**data, "init_parameters": values})
        return found


def main() -> int:
    """Print each step with its answer."""
    from agent_loop import print_steps, read_command_line

    example = read_command_line(__doc__)
    answerer = SubQuestionAnswerer("", example.answer)
    answerer.decompose = example.decompose
    pipeline = Pipeline()
    pipeline.add_component("answerer", answerer)
    print_steps(pipeline.run({"answerer": {"question": example.question}})["answerer"]["steps"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
