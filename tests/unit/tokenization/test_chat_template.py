"""Contract 2 (BOS), and the texts of the chat template."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.chat_rows import encode, make_example

from qdsft.errors import UserError
from qdsft.tokenization.chat_template import check_bos, render_texts


def test_texts_are_those_of_apply_chat_template(tokenizer: Any) -> None:
    conversations = [list(make_example().messages), [{"role": "user", "content": " 무엇?\n"}]]
    for answered in (False, True):
        asked = [[*c, {"role": "assistant", "content": " 1. a "}] if answered else c for c in conversations]
        theirs = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=not answered)
        assert render_texts(tokenizer, asked, add_generation_prompt=not answered) == theirs


def test_a_second_bos_is_caught(llama: Any) -> None:
    text = llama.apply_chat_template(list(make_example().messages), tokenize=False, add_generation_prompt=True)
    once = llama(text, add_special_tokens=False)["input_ids"]
    twice = llama(text)["input_ids"]  # what a second path that forgets the template's own BOS would do
    check_bos(llama, [text], [once])
    assert twice[:2] == [llama.bos_token_id] * 2
    with pytest.raises(UserError, match="writes 1 <s> but the tokenizer yields 2"):
        check_bos(llama, [text], [twice])


@pytest.mark.parametrize("field", ["question", "answer"])
def test_special_tokens_in_the_data_are_refused(llama: Any, field: str) -> None:
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the text .* holds '</s>'"):
        encode(llama, make_example(**{field: "1. What is </s> in HTML?"}))


def test_a_template_error_is_one_line(llama: Any) -> None:
    llama.chat_template = "{{ raise_exception('no system please') }}"
    with pytest.raises(UserError, match=r"the chat template \(of .*llama\) refuses the messages: no system please"):
        encode(llama, make_example())
