"""Examples: their question, their line of eval.jsonl, and the fingerprint of many."""

from __future__ import annotations

import datetime
import json

from qdsft.data.examples import Digest, Example, examples_sha256
from qdsft.data.record import Record


def example(user: str = "q", completion: str = "1. a", system: str | None = None) -> Example:
    messages = [{"role": "system", "content": system}] if system is not None else []
    return Example(Record({"question": user}, "t:1"), (*messages, {"role": "user", "content": user}), completion)


def test_the_question_is_the_user_message() -> None:
    assert example("누가?", system="Split.").question == "누가?"


def test_a_line_of_eval_jsonl_keeps_what_json_has_no_form_for_as_text() -> None:
    made = Example(Record({"day": datetime.date(2024, 1, 2), "question": "q"}, "t:1"), example().messages, "1. 가")
    line = made.to_json()
    assert "가" in line and "\n" not in line
    assert json.loads(line) == {
        "row": {"day": "2024-01-02", "question": "q"},
        "messages": [{"role": "user", "content": "q"}],
        "completion": "1. 가",
    }


def test_the_fingerprint_changes_with_texts_their_division_and_their_order() -> None:
    a, b = example("a"), example("b")
    assert examples_sha256([a, b]) == examples_sha256([a, b])
    different = [[a, b], [b, a], [a], [example("a", "1. b"), b], [example("a", system=""), b], []]
    assert len({examples_sha256(examples) for examples in different}) == len(different)
    assert examples_sha256([example("ab", "c")]) != examples_sha256([example("a", "bc")])


def test_a_digest_of_a_stream_is_the_fingerprint_of_all() -> None:
    examples = [example(str(number)) for number in range(700)]
    digest = Digest()
    for one in examples:
        digest.add(one)
    assert digest.hexdigest() == examples_sha256(examples)
