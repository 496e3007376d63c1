"""Contract 5 (length): nothing is truncated silently."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.chat_rows import encode, make_example

from qdsft.data.examples import Example
from qdsft.data.record import Record
from qdsft.errors import UserError
from qdsft.tokenization.chat_template import encode_prompts


def test_overlength_error_names_the_longest_row_and_counts(llama: Any) -> None:
    long = Example(Record({}, "train.jsonl:9"), ({"role": "user", "content": "long " * 300},), "1. a")
    with pytest.raises(UserError, match=r"^train\.jsonl:9: \d+ tokens, more than .* 100 \(1 of 2 rows are too long\)"):
        encode(llama, make_example("Who?", "1. a"), long, max_length=100)


def test_overlength_drop_counts(llama: Any) -> None:
    encoded = encode(
        llama, make_example("Who?", "1. a"), make_example("long " * 300), max_length=100, overlength="drop"
    )
    assert (len(encoded.rows), encoded.counts.dropped, encoded.counts.truncated) == (1, 1, 0)
    assert encoded.examples[0].question == "Who?"


def test_overlength_truncate_keeps_the_answer_and_the_stop_token(llama: Any) -> None:
    whole = make_example("question " * 3000)
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
        encode(llama, make_example(answer="1. " + "word " * 300), max_length=100, overlength="truncate")


def test_summary_counts_supervised_tokens(llama: Any) -> None:
    encoded = encode(llama, make_example())
    row = encoded.rows[0]
    share = (len(row.input_ids) - row.prompt_length) / len(row.input_ids)
    assert encoded.counts.summary().supervised_share == pytest.approx(share, abs=1e-4)
    assert encoded.counts.summary().tokens == len(row.input_ids)
