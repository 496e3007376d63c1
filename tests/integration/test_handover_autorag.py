"""examples/autorag_query_decompose.py in the real AutoRAG. Another tokenizer replaces GPT-2's, which counts tokens."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from helpers.handovers import code_of, needs, run_code

QUESTION = "핀 파이크와 레온 마쉬가 모두 나온 영화는 무엇인가요?"
CODE = """
import json
import autorag_query_decompose as example
from qdsft.data.decomposition import Decomposition

class Model(example.DecomposingModel):
    def model_post_init(self, context):
        answers = {
            "Who is older: A or B?": ("How old is A?", "How old: B?", "Is #1 above #2?"),
            "prompt: x?\\n\\n question: y?": ("누가 썼나요?", "#1은 어디서 태어났나요?"),
            "forward?": ("Who is #2?", "Who?"),
            "none?": (),
        }
        self._decompose = lambda question: Decomposition(answers[question])

example.autorag.generator_models["fixed"] = Model
values = {"generator_module_type": "llama_index_llm", "llm": "fixed", "run_dir": "none"}
node = example.Module.from_dict({"module_type": "query_decompose", **values})
asked = ["Who is older: A or B?", "prompt: x?\\n\\n question: y?", "forward?", "none?"]
rows = example.pd.DataFrame({"qid": asked, "query": asked, "retrieval_gt": asked, "generation_gt": asked})
for prompt in ({}, {"prompt": "Decompose."}):
    found = node.module.run_evaluator(project_dir=".", previous_result=rows, **node.module_param, **prompt)
    print(json.dumps(found["queries"].tolist(), ensure_ascii=False))
"""


@pytest.mark.slow
@needs("autorag")
def test_the_node_searches_with_the_sub_questions_of_a_run(quick_python: str, tiny_run: Path) -> None:
    shutil.copytree(tiny_run / "outputs" / "tiny-full" / "model", tiny_run / "gpt2", dirs_exist_ok=True)
    first, second, last = (
        ast.literal_eval(line)
        for line in run_code(quick_python, CODE + code_of("AutoRAG"), tiny_run)
        if line.startswith("[[")
    )
    assert first == second
    assert first == [
        ["How old is A?", "How old: B?", "Is the answer to “How old is A?” above the answer to “How old: B?”?"],
        ["누가 썼나요?", "“누가 썼나요?”의 답은 어디서 태어났나요?"],
        ["forward?"],
        ["none?"],
    ]
    assert last == [[QUESTION]]  # random weights write no numbered list
