"""Passages: read from a corpus, and moved out of the rows of other projects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.data.passages import evidence_of, make_passage, move_passages, read_corpus
from qdsft.data.record import Record, RowError
from qdsft.errors import UserError

TEXTS = ("Ida: a mountain.", "Oslo: a city. It is old.", "Rome: a city.")
PARAGRAPHS = [
    {"idx": 0, "title": "Ida", "paragraph_text": "a mountain.", "is_supporting": False},
    {"idx": 1, "title": "Oslo", "paragraph_text": "a city. It is old.", "is_supporting": True},
    {"idx": 2, "title": "Rome", "paragraph_text": "a city.", "is_supporting": True},
]
CONTEXT = [["Ida", ["a mountain."]], ["Oslo", ["a city.", " It is old."]], ["Rome", ["a city."]]]
ON_HUB = {"title": [title for title, _ in CONTEXT], "sentences": [sentences for _, sentences in CONTEXT]}


def corpus(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "texts", "gold"),
    [
        ({"facts": ["A.", "B."]}, ("A.", "B."), ("A.", "B.")),
        ({"facts": ["A.", "B.", "A.", " "]}, ("A.", "B.", "A."), ("A.", "B.")),
        ({"paragraphs": PARAGRAPHS}, TEXTS, TEXTS[1:]),
        ({"context": CONTEXT, "supporting_facts": [["Oslo", 0], ["Oslo", 1], ["Rome", 0]]}, TEXTS, TEXTS[1:]),
        ({"context": ON_HUB, "supporting_facts": {"title": ["Rome", "Oslo"], "sent_id": [0, 1]}}, TEXTS, TEXTS[1:]),
    ],
)
def test_passages_move_out_of_a_row(row: dict[str, Any], texts: tuple[str, ...], gold: tuple[str, ...]) -> None:
    record, passages = move_passages(Record({"question": "q", **row}, "f:1"))
    assert tuple(passage.text for passage in passages) == texts
    assert record.row == {"question": "q", "evidence": [make_passage(text).id for text in gold]}


def test_a_row_without_passages_is_not_changed() -> None:
    record = Record({"question": "q", "supporting_facts": [1]}, "f:1")
    assert move_passages(record) == (record, [])


@pytest.mark.parametrize(
    "row",
    [
        {"facts": "A."},
        {"facts": [1]},
        {"facts": None},
        {"paragraphs": [{"title": "Ida", "is_supporting": True}]},
        {"paragraphs": ["Ida"]},
        {"context": CONTEXT},
        {"context": [["Ida"]], "supporting_facts": []},
        {"context": {"title": ["Ida"], "sentences": []}, "supporting_facts": []},
        {"context": CONTEXT, "supporting_facts": ["Oslo"]},
    ],
)
def test_damaged_passages_are_named(row: dict[str, Any]) -> None:
    with pytest.raises(RowError, match=r"^f:1: the passages in '\w+' cannot be read: "):
        move_passages(Record(row, "f:1"))


def test_evidence_is_not_replaced() -> None:
    with pytest.raises(RowError, match="the row has a field 'evidence' already"):
        move_passages(Record({"facts": ["A."], "evidence": ["x"]}, "f:1"))


def test_a_corpus_is_read(tmp_path: Path) -> None:
    path = corpus(tmp_path / "c.jsonl", {"id": "a", "text": "A."}, {"id": "b", "text": "A.", "title": "x"})
    assert [(one.id, one.text) for one in read_corpus(path)] == [("a", "A."), ("b", "A.")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "a", "text": "B."}, 'the id "a" is that of the passage in '),
        ({"id": "b"}, "text must be text that is not empty, not null"),
        ({"id": 7, "text": "B."}, "id must be text that is not empty, not 7"),
        ({"id": "b", "text": " "}, "text must be text that is not empty"),
    ],
)
def test_a_damaged_corpus_is_one_line(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = corpus(tmp_path / "c.jsonl", {"id": "a", "text": "A."}, row)
    with pytest.raises(UserError) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: {reason}")


def test_evidence_of_a_row() -> None:
    assert evidence_of({"evidence": ["a", "b", "a"]}, "f:1") == ["a", "b"]
    assert evidence_of({}, "f:1") is None and evidence_of({"evidence": []}, "f:1") is None
    for damaged in ("a", [1], {"a": 1}, 0):
        with pytest.raises(UserError, match=r"^f:1: evidence must be a list of ids or texts of passages, not "):
            evidence_of({"evidence": damaged}, "f:1")
