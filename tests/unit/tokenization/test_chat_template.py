"""Contracts 1 (stop), 2 (BOS), 3 (mask) and 5 (length): each holds, and each planted fault is caught."""

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
from qdsft.tokenization.chat_template import check_bos, encode_prompts, render_texts
from qdsft.tokenization.length_limit import encode_examples
from qdsft.tokenization.rows import IGNORED, RowMaker

TEMPLATES = {
    "llama2": "llama",
    "mistral": "mistral",
    "koalpaca": "gpt_neox",
    "gemma3_270m": "gemma3_text",
    "tiny": "llama",
}


def example(question: str = "Who is older, A or B?", answer: str = "1. How old is A?\n2. How old is B?") -> Example:
    messages = ({"role": "system", "content": "Split it."}, {"role": "user", "content": question})
    return Example(Record({}, "train.jsonl:7"), messages, answer)


@pytest.fixture(params=[*TEMPLATES, "qwen3_4b"])
def tokenizer(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> Any:
    family = request.param
    loaded = AutoTokenizer.from_pretrained(tiny_model(TEMPLATES.get(family, "qwen3")))
    template = ROOT / "recipes" / family / "chat_template.jinja"
    if template.is_file():
        loaded.chat_template = template.read_text(encoding="utf-8")
    return loaded


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Any:
    loaded = AutoTokenizer.from_pretrained(tiny_model("llama"))
    loaded.chat_template = (ROOT / "recipes/llama2/chat_template.jinja").read_text(encoding="utf-8")
    return loaded


def encode(tokenizer: Any, *examples: Example, max_length: int | None = None, overlength: str = "error") -> Any:
    stops = [tokenizer.eos_token_id]
    return encode_examples(tokenizer, examples, stops, max_length=max_length, overlength=overlength)


def test_rows_hold_the_contracts(tokenizer: Any) -> None:
    rows = [
        example(),
        example("철수와 영희 중 누가 더 나이가 많나요?", "1. 철수는 몇 살인가요?\n2. 영희는 몇 살인가요?"),
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


def test_texts_are_those_of_apply_chat_template(tokenizer: Any) -> None:
    conversations = [list(example().messages), [{"role": "user", "content": " 무엇?\n"}]]
    for answered in (False, True):
        asked = [[*c, {"role": "assistant", "content": " 1. a "}] if answered else c for c in conversations]
        theirs = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=not answered)
        assert render_texts(tokenizer, asked, add_generation_prompt=not answered) == theirs


def test_a_template_without_stop_token_is_refused(llama: Any) -> None:
    llama.chat_template = llama.chat_template.replace("eos_token", "''")
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the answer ends in .* where generation does not stop"):
        encode(llama, example())


def test_a_stop_token_that_generation_ignores_is_refused(llama: Any) -> None:
    with pytest.raises(UserError, match="generation does not stop"):
        encode_examples(llama, [example()], [llama.unk_token_id], max_length=None, overlength="error")


def test_a_second_bos_is_caught(llama: Any) -> None:
    text = llama.apply_chat_template(list(example().messages), tokenize=False, add_generation_prompt=True)
    once = llama(text, add_special_tokens=False)["input_ids"]
    twice = llama(text)["input_ids"]  # what a second path that forgets the template's own BOS would do
    check_bos(llama, [text], lambda token: [once.count(token)])
    assert twice[:2] == [llama.bos_token_id] * 2
    with pytest.raises(UserError, match="writes 1 <s> but the tokenizer yields 2"):
        check_bos(llama, [text], lambda token: [twice.count(token)])


def test_a_row_without_loss_is_refused(llama: Any) -> None:
    llama.chat_template = "{{ bos_token }}{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match=r"^train\.jsonl:7: no token of this row carries loss"):
        encode(llama, example())


def test_rows_of_no_tokens_are_refused(llama: Any) -> None:
    llama.chat_template = "{{ '' }}"
    with pytest.raises(UserError, match=r"^train\.jsonl:7: no token of this row carries loss"):
        RowMaker(llama, [llama.eos_token_id]).make([example(), example()])


def test_a_prompt_that_changes_once_answered_is_refused(llama: Any) -> None:
    llama.chat_template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT>{% else %}{{ eos_token }}{% endif %}"
    )
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the prompt's tokens change once an answer follows"):
        encode(llama, example())


@pytest.mark.parametrize("field", ["question", "answer"])
def test_special_tokens_in_the_data_are_refused(llama: Any, field: str) -> None:
    with pytest.raises(UserError, match=r"^train\.jsonl:7: the text .* holds '</s>'"):
        encode(llama, example(**{field: "1. What is </s> in HTML?"}))


def test_overlength_error_names_the_longest_row_and_counts(llama: Any) -> None:
    long = Example(Record({}, "train.jsonl:9"), ({"role": "user", "content": "long " * 300},), "1. a")
    with pytest.raises(UserError, match=r"^train\.jsonl:9: \d+ tokens, more than .* 100 \(1 of 2 rows are too long\)"):
        encode(llama, example("Who?", "1. a"), long, max_length=100)


def test_overlength_drop_counts(llama: Any) -> None:
    encoded = encode(llama, example("Who?", "1. a"), example("long " * 300), max_length=100, overlength="drop")
    assert (len(encoded.rows), encoded.counts.dropped, encoded.counts.truncated) == (1, 1, 0)
    assert encoded.examples[0].question == "Who?"


def test_overlength_truncate_keeps_the_answer_and_the_stop_token(llama: Any) -> None:
    whole = example("question " * 3000)
    encoded = encode(llama, whole, max_length=120, overlength="truncate")
    row = encoded.rows[0]
    assert encoded.counts.truncated == 1
    assert len(row.input_ids) <= 120
    assert row.input_ids[-1] == llama.eos_token_id == row.labels[-1]
    answer = llama.decode(row.input_ids[row.prompt_length :], skip_special_tokens=True).strip()
    assert answer == whole.completion
    assert whole.question.startswith(encoded.examples[0].question)
    assert encode_prompts(llama, [list(encoded.examples[0].messages)])[0] == row.input_ids[: row.prompt_length]


def test_truncate_refuses_an_answer_that_is_too_long_by_itself(llama: Any) -> None:
    with pytest.raises(UserError, match="even without its user text"):
        encode(llama, example(answer="1. " + "word " * 300), max_length=100, overlength="truncate")


def test_summary_counts_supervised_tokens(llama: Any) -> None:
    encoded = encode(llama, example())
    row = encoded.rows[0]
    share = (len(row.input_ids) - row.prompt_length) / len(row.input_ids)
    assert encoded.counts.summary()["supervised_share"] == pytest.approx(share, abs=1e-4)
    assert encoded.counts.summary()["tokens"] == len(row.input_ids)


def test_a_template_error_is_one_line(llama: Any) -> None:
    llama.chat_template = "{{ raise_exception('no system please') }}"
    with pytest.raises(UserError, match="the chat template refuses the messages: no system please"):
        encode(llama, example())
