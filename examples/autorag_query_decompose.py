#!/usr/bin/env python3
"""AutoRAG's node `query_decompose`, with a run of qdsft in the place of the language model.

Needs AutoRAG, see docs/INTEGRATIONS.md. The node retrieves passages for all sub-questions at once and puts no answers
in place of `#n`, so references are written out as phrases. A question whose decomposition is not valid stays whole.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import autorag
import pandas as pd
from autorag.schema import Module
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata

import qdsft
from qdsft.data.references import without_references
from qdsft.errors import UserError

QUESTION = "\n\n question: "
"""What the node writes between its prompt and the question."""
WHOLE = "The question needs no decomposition"


class DecomposingModel(CustomLLM):
    """Answer the prompts of `query_decompose` with a run. The node's own prompt is not used."""

    run_dir: str
    _decompose: qdsft.Decomposer = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Load the run."""
        super().model_post_init(context)
        self._decompose = qdsft.Decomposer(self.run_dir)

    @property
    def metadata(self) -> LLMMetadata:
        """Nothing that the node reads."""
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Return the sub-questions as the node reads them: `1: ...`, one per line."""
        try:
            steps = without_references(self._decompose(prompt.partition(QUESTION)[2]))
        except UserError:
            return CompletionResponse(text=WHOLE)
        return CompletionResponse(text="\n".join(f"{number}: {step}" for number, step in enumerate(steps, start=1)))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Yield the whole text at once."""
        yield self.complete(prompt, formatted)


def register() -> None:
    """Let the configuration of AutoRAG name this model as `llm: qdsft`."""
    autorag.generator_models["qdsft"] = DecomposingModel


def main() -> int:
    """Print the sub-questions that the node makes of a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir")
    parser.add_argument("question")
    options = parser.parse_args()
    register()
    module = {"module_type": "query_decompose", "generator_module_type": "llama_index_llm", "llm": "qdsft"}
    node = Module.from_dict({**module, "run_dir": options.run_dir})
    rows = pd.DataFrame({"qid": ["1"], "query": [options.question], "retrieval_gt": [[]], "generation_gt": [[]]})
    found = node.module.run_evaluator(project_dir=".", previous_result=rows, **node.module_param)
    print("\n".join(found["queries"][0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
