"""Contracts 1 (stop) and 3 (mask): each holds, each planted fault is caught, and the end of the prompt is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_rows import encode, make_example, make_examples
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from qdsft.errors import UserError
from qdsft.tokenization import rows as rows_module
from qdsft.tokenization.chat_template import encode_prompts, token_ids
from qdsft.tokenization.length_limit import encode_examples
from qdsft.tokenization.rows import IGNORED, RowMaker


def test_rows_hold_the_contracts(tokenizer: Any) -> None:
    rows = [
        make_example(),
        make_example("철수와 영희 중 누가 더 나이가 많나요?", "1. 철수는 몇 살인가요?\n2. 영희는 몇 살인가요?"),
    ]
    encoded = encode(tokenizer, *rows)
    prompts = encode_prompts(tokenizer, [list(row.messages) for row in rows])
    for row, prompt, source in zip(encoded.rows, prompts, rows, strict=True):
        assert row.input_ids[: row.prompt_length] == prompt, "training and inference ask alike"
        assert row.labels[: row.prompt_length] == [IGNORED] * row.prompt_length
        assert row.labels[row.prompt_length :] == row.input_ids[row.prompt_length :]
        answer = tokenizer.decode(row.input_ids[row.prompt_length :], skip_special_tokens=True)
        assert answer.strip() == source.completion
        trained = [token for token in row.labels if token != IGNORED]
        while not tokenizer.decode([trained[-1]]).strip():
            trained.pop()
        assert trained[-1] == tokenizer.eos_token_id, "the stop token carries loss"
        writes_bos = tokenizer.bos_token is not None and "bos_token" in tokenizer.chat_template
        assert row.input_ids.count(tokenizer.bos_token_id) == int(writes_bos)


def test_a_template_without_stop_token_is_refused(llama: Any) -> None:
    llama.chat_template = llama.chat_template.replace("eos_token", "''")
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the answer ends in .* where generation does not stop"):
        encode(llama, make_example())


def test_a_stop_token_that_generation_ignores_is_refused(llama: Any) -> None:
    with pytest.raises(UserError, match="generation does not stop"):
        encode_examples(llama, [make_example()], [llama.unk_token_id], max_length=None, overlength="error")


def test_a_row_without_loss_is_refused(llama: Any) -> None:
    llama.chat_template = "{{ bos_token }}{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match=r"^train\.jsonl:7: no token of this row carries loss"):
        encode(llama, make_example())


def test_rows_of_no_tokens_are_refused(llama: Any) -> None:
    llama.chat_template = "{{ '' }}"
    with pytest.raises(UserError, match=r"^train\.jsonl:7: no token of this row carries loss"):
        RowMaker(llama, [llama.eos_token_id]).make([make_example(), make_example()])


def test_a_prompt_that_changes_once_answered_is_refused(llama: Any) -> None:
    llama.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT>{% else %}{{ eos_token }}{% endif %}"
    )
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the prompt's tokens change once an answer follows"):
        encode(llama, make_example())


PLAIN = (
    "{% for m in messages %}{% if m.role == 'assistant' %}A:{{ m.content }}{{ eos_token }}"
    "{% else %}{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)


def test_few_prompts_are_tokenized_and_every_length_is_right(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counted(tokenizer: Any, texts: list[str]) -> list[list[int]]:
        compared.append(len(texts))
        return token_ids(tokenizer, texts)

    monkeypatch.setattr(rows_module, "token_ids", counted)
    maker = RowMaker(tokenizer, [tokenizer.eos_token_id])
    odd = [
        *make_examples(5, "  blanks {n} around  ", " 1. a\n2. {n} "),
        *make_examples(5, "줄\n{n} 바꿈\n", "1. {n}\n\n2. 나"),
        *make_examples(5, "{n}? 1. What is 3?", "1. What is 3?"),
        *make_examples(5, "🙂 {n}", "🙂 {n}"),
    ]
    for batch in (make_examples(3), make_examples(300), odd):
        prompts = encode_prompts(tokenizer, [example.messages for example in batch])
        assert [row.input_ids[: row.prompt_length] for row in maker.make(batch)] == prompts
    assert compared[1] < 30, "of 300"


@pytest.mark.parametrize("bad", [0, 3, 250])
def test_a_template_that_treats_one_row_differently_is_caught(bad: int, tiny_model: Callable[[str], Path]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model("llama"))
    lead = "{{ '' if 'odd' in messages[-2].content else 'think ' }}A:"
    tokenizer.chat_template = PLAIN.replace("'assistant' %}A:", f"'assistant' %}}{lead}").replace(
        " %}A:{% endif", " %}think A:{% endif"
    )
    maker = RowMaker(tokenizer, [tokenizer.eos_token_id])
    batch = make_examples(300)
    maker.make(batch)
    batch[bad] = make_examples(bad + 1, "odd {n}")[bad]
    with pytest.raises(UserError, match=rf"^t:{bad}: the prompt's tokens change once an answer follows"):
        maker.make(batch)


def byte_level(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of single bytes and these merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["</s>", *alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    tokenizer.chat_template = PLAIN
    return tokenizer


def test_a_token_across_the_end_of_the_prompt_is_caught() -> None:
    assert len(encode(byte_level((":", "?")), *make_examples(3)).rows) == 3
    with pytest.raises(UserError, match=r"^t:0: the prompt's tokens change once an answer follows"):
        encode(byte_level((":", "?")), *make_examples(3, answer="?{n}"))


def test_a_pattern_that_looks_ahead_is_caught() -> None:
    """The whole text has a token boundary after the blanks, but the prompt alone ends in one token of two blanks."""
    tokenizer = byte_level(("Ġ", "Ġ"))
    tokenizer.chat_template = PLAIN.replace("A:", "A:  ")
    text = tokenizer("A:  1")
    assert text.token_to_chars(text.char_to_token(4)).start == 4
    with pytest.raises(UserError, match=r"^t:2: the prompt's tokens change once an answer follows"):
        encode(tokenizer, *make_examples(2, answer="\n{n}"), *make_examples(3)[2:])


def test_a_tokenizer_without_offsets_gives_the_same_rows() -> None:
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = PLAIN
    examples = make_examples(5)
    rows = encode_examples(tokenizer, examples, [tokenizer.eos_token_id], max_length=None, overlength="error").rows
    assert [row.input_ids[: row.prompt_length] for row in rows] == encode_prompts(
        tokenizer, [example.messages for example in examples]
    )
    assert [tokenizer.decode(row.answer_ids) for row in rows] == [f"{e.completion}</s>" for e in examples]
    assert rows[0].labels.count(IGNORED) == rows[0].prompt_length > 0
