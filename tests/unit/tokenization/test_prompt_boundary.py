"""The prompt's end is found without asking for it, is the one that inference has, and faults are seen anyway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from transformers import AutoTokenizer

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.tokenization import prompt_boundary
from qdsft.tokenization.chat_template import encode_prompts
from qdsft.tokenization.length_limit import Encoder
from qdsft.tokenization.rows import RowMaker

FAMILIES = {"llama2": "llama", "mistral": "mistral", "koalpaca": "gpt_neox", "gemma3_270m": "gemma3_text"}


def examples(count: int, question: str = "Is {n} more than 7?", answer: str = "1. What is {n}?") -> list[Example]:
    return [
        Example(
            Record({}, f"t:{n}"),
            ({"role": "system", "content": "Split."}, {"role": "user", "content": question.format(n=n)}),
            answer.format(n=n),
        )
        for n in range(count)
    ]


@pytest.fixture(params=[*FAMILIES, "qwen3_4b"])
def tokenizer(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Any:
    loaded = AutoTokenizer.from_pretrained(tiny_model(FAMILIES.get(request.param, "qwen3")))
    template = ROOT / "recipes" / request.param / "chat_template.jinja"
    if template.is_file():
        loaded.chat_template = template.read_text(encoding="utf-8")
    return loaded


def encoder_of(tokenizer: Any) -> Encoder:
    return Encoder(RowMaker(tokenizer, [tokenizer.eos_token_id]), None, "error")


def test_few_prompts_are_encoded_and_every_length_is_right(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(tokenizer: Any, conversations: Any) -> Any:
        asked.append(len(conversations))
        return encode_prompts(tokenizer, conversations)

    monkeypatch.setattr(prompt_boundary, "encode_prompts", counted)
    encoder = encoder_of(tokenizer)
    odd = [
        *examples(5, "  blanks {n} around  ", " 1. a\n2. {n} "),
        *examples(5, "줄\n{n} 바꿈\n", "1. {n}\n\n2. 나"),
        *examples(5, "{n}? 1. What is 3?", "1. What is 3?"),
        *examples(5, "🙂 {n}", "🙂 {n}"),
    ]
    every = [examples(3), examples(300), odd]
    for batch in every:
        rows = [row for row, _ in encoder.encode(batch)]
        prompts = encode_prompts(tokenizer, [example.messages for example in batch])
        assert [row.input_ids[: row.prompt_length] for row in rows] == prompts
    assert asked[1] < 30, "of 300"


@pytest.mark.parametrize("bad", [3, 150, 250])
def test_a_template_that_treats_one_row_otherwise_is_seen(
    bad: int, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '' if 'odd' in messages[-2].content else 'think ' }}A: {{ m.content }}{{ eos_token }}"
        "{% else %}{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}think A:{% endif %}"
    )
    batch = examples(300)
    batch[bad] = examples(bad + 1, "odd {n}")[bad]
    encoder = encoder_of(tokenizer)
    with pytest.raises(UserError, match=rf"^t:{bad}: the prompt's tokens change once an answer follows"):
        for start in range(0, 300, 100):
            encoder.encode(batch[start : start + 100])
