#!/usr/bin/env python3
"""LlamaIndex: sub-questions with the tool that answers each, from a run of recipes/tasks/tool_routing.yaml.

Needs `pip install -e '.[llamaindex]'`. `SubQuestions` writes the questions of LlamaIndex's SubQuestionQueryEngine,
which asks each without the answers of others: references are written out as phrases ("the answer to ..."). `InOrder`
is an engine that puts the answers in their place. Both also take a run without tools, whose questions go to the first
tool.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core import QueryBundle, Settings
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.tools import QueryEngineTool, ToolMetadata

import qdsft
from qdsft.data.decomposition import Decomposition
from qdsft.data.references import without_references
from qdsft.errors import UserError

Ask = Callable[[str, Sequence[ToolMetadata]], str]
"""What a model writes for a question and the tools that there are: `1. [tool] sub-question`, one per line."""
logger = logging.getLogger(__name__)


def ask_run(run_dir: str | Path) -> Ask:
    """Return a function that asks a run. A run whose prompt has no column `tools` is asked the question alone."""
    decompose = qdsft.Decomposer(run_dir)

    def ask(question: str, tools: Sequence[ToolMetadata]) -> str:
        if "tools" not in decompose.run.task.columns:
            return decompose.text(question)
        listed = [{"name": tool.name, "description": tool.description} for tool in tools]
        return decompose.text(json.dumps({"question": question, "tools": listed}, ensure_ascii=False))

    return ask


def choose_tool(step: str, names: Sequence[str]) -> tuple[str, str]:
    """Return (tool, sub-question) of a step `[tool] sub-question`.

    A step that names no tool, or one that is not in `names`, goes to the first tool.
    """
    for name in names:
        if (text := step.removeprefix(f"[{name}]").strip()) not in (step, ""):
            return name, text
    text = re.sub(r"^\[[^\]]*\]\s*", "", step)
    if text != step:
        logger.warning("%r names none of the tools %s; the first one is asked", step, ", ".join(names))
    return names[0], text or step


class SubQuestions(BaseQuestionGenerator):
    """Sub-questions for SubQuestionQueryEngine. A question whose decomposition is not valid stays whole."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def generate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """Return the sub-questions of a question, each with the name of one of the tools."""
        names = [tool.name or "" for tool in tools]
        found = Decomposition.parse(self._ask(query.query_str, tools))
        chosen = [choose_tool(step, names) for step in found.steps]
        try:
            steps = without_references(Decomposition(tuple(text for _, text in chosen), found.format_problems))
        except UserError as error:
            logger.warning("%s; the question is asked whole", error)
            return [SubQuestion(sub_question=query.query_str, tool_name=names[0])]
        return [SubQuestion(sub_question=step, tool_name=name) for (name, _), step in zip(chosen, steps, strict=True)]

    async def agenerate(self, tools: Sequence[ToolMetadata], query: QueryBundle) -> list[SubQuestion]:
        """As `generate`."""
        return self.generate(tools, query)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        return None


class InOrder(CustomQueryEngine):
    """Answer each sub-question with its tool and with the answers of earlier ones in place of `#n`.

    The response is the answer of the last one; its metadata has all steps. A question whose decomposition is not valid
    goes to the first tool.
    """

    ask: Ask
    tools: list[QueryEngineTool]

    def custom_query(self, query_str: str) -> Response:
        """Answer one question."""
        engines = {tool.metadata.name or "": tool.query_engine for tool in self.tools}

        def answer(asked: str) -> str:
            name, question = choose_tool(asked, list(engines))
            return str(engines[name].query(question))

        found = Decomposition.parse(self.ask(query_str, [tool.metadata for tool in self.tools]))
        executed = qdsft.execute(found if found.is_valid else [query_str], answer)
        return Response(response=executed.answer, metadata={"steps": executed.steps, "errors": executed.errors})


class Facts(CustomQueryEngine):
    """The toy of agent_loop.py in the place of an index."""

    facts: dict[str, str]

    def custom_query(self, query_str: str) -> Response:
        """The answer of one sub-question."""
        from agent_loop import look_up

        return Response(response=look_up(self.facts, query_str))


def make_tools(facts: dict[str, str]) -> list[QueryEngineTool]:
    """Tools for the example, all of them the same toy."""
    described = {
        "people": "where people studied",
        "universities": "when universities were founded",
        "calculator": "sums",
    }
    return [QueryEngineTool(Facts(facts=facts), ToolMetadata(text, name)) for name, text in described.items()]


def make_engine(ask: Ask, tools: Sequence[QueryEngineTool]) -> SubQuestionQueryEngine:
    """Return an engine that answers every sub-question and returns all answers; no language model is asked."""
    Settings.llm = MockLLM()
    return SubQuestionQueryEngine.from_defaults(
        query_engine_tools=tools,
        question_gen=SubQuestions(ask),
        response_synthesizer=get_response_synthesizer(response_mode=ResponseMode.NO_TEXT),
        use_async=False,
    )


def main() -> int:
    """Print what LlamaIndex's engine asks, and the steps in order."""
    from agent_loop import HERE, print_steps, read_decomposition

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", help="to be decomposed by --run")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="a run that decomposes the question")
    parser.add_argument("--decomposition", type=Path, default=HERE / "routed.json", metavar="FILE")
    options = parser.parse_args()
    tools = make_tools(json.loads((HERE / "facts.json").read_text(encoding="utf-8")))
    if options.run:
        question, ask = options.question or parser.error("--run needs a question"), ask_run(options.run)
    else:
        question, fixed = read_decomposition(options.decomposition)
        ask = lambda *_: fixed.render()  # noqa: E731
    make_engine(ask, tools).query(question)
    print_steps((InOrder(ask=ask, tools=tools).query(question).metadata or {})["steps"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
