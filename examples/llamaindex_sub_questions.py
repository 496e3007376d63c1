#!/usr/bin/env python3
"""LlamaIndex's sub-question engine, with a run of qdsft in the place of the language model that writes the questions.

Needs `pip install llama-index-core`. The sub-questions go out in the format `llamaindex`, which LlamaIndex's own parser
reads. Its engine asks each on its own and knows no `#n`: references are written out ("the answer to ..."), which an
index with a language model can read and the toy here cannot. To put answers in their place, see agent_loop.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core import QueryBundle, Settings
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.output_parser import SubQuestionOutputParser
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.tools import QueryEngineTool, ToolMetadata

from qdsft.data.decomposition import Decomposition
from qdsft.data.formats.write import render_as

sys.path.insert(0, str(Path(__file__).resolve().parent))
from agent_loop import HERE, look_up, read_decomposition

TOOL = "query_engine_tool"
"""The name of the one tool that answers; the format's default."""


class Decompositions(BaseQuestionGenerator):
    """Sub-questions for LlamaIndex from whatever decomposes a question, such as `qdsft.Decomposer`."""

    def __init__(self, decompose: Callable[[str], Decomposition]) -> None:
        self._decompose = decompose

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """The sub-questions of a question; none if its decomposition is not valid."""
        found = self._decompose(query.query_str)
        if found.problems():
            return []
        parsed = SubQuestionOutputParser().parse(render_as("llamaindex", query.query_str, found))
        questions: list[SubQuestion] = parsed.parsed_output
        return questions

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """As `generate`."""
        return self.generate(tools, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        return None


class Facts(CustomQueryEngine):
    """The toy of agent_loop.py in the place of an index."""

    facts: dict[str, str]

    def custom_query(self, query_str: str) -> Response:
        """The answer of one sub-question."""
        return Response(response=look_up(self.facts, query_str))


def build_engine(decompose: Callable[[str], Decomposition], facts: dict[str, str]) -> SubQuestionQueryEngine:
    """An engine that answers every sub-question and hands all of them on; no language model is asked."""
    tool = QueryEngineTool(Facts(facts=facts), ToolMetadata(name=TOOL, description="facts about people and places"))
    Settings.llm = MockLLM()
    return SubQuestionQueryEngine.from_defaults(
        query_engine_tools=[tool],
        question_gen=Decompositions(decompose),
        response_synthesizer=get_response_synthesizer(response_mode=ResponseMode.NO_TEXT),
        use_async=False,
        verbose=False,
    )


def main() -> int:
    """Print each sub-question with its answer."""
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", help="to be decomposed by --run")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run that decomposes the question")
    parser.add_argument("--decomposition", type=Path, default=HERE / "independent.json", metavar="FILE")
    options = parser.parse_args()
    facts = json.loads((HERE / "facts.json").read_text(encoding="utf-8"))
    if options.run:
        import qdsft

        question, decompose = options.question or parser.error("--run needs a question"), qdsft.Decomposer(options.run)
        engine = build_engine(decompose, facts)
    else:
        question, fixed = read_decomposition(options.decomposition)
        engine = build_engine(lambda _: fixed, facts)
    for node in engine.query(question).source_nodes:
        print(node.node.get_content())
    return 0


if __name__ == "__main__":
    sys.exit(main())
