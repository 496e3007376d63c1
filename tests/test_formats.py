"""Other projects' formats: BREAK's parse, StrategyQA's file, and conversion with nothing dropped unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdsft.data import read_records, validate
from qdsft.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.formats import ConvertReport, break_steps, convert, read_strategyqa

STRATEGYQA = Path(__file__).parents[2] / "shared" / "data" / "strategyqa" / "train.json"

GOOD = {"qid": "1", "question": "Did Ada outlive Bob?", "decomposition": ["When did Ada die?", "Is #1 late?"]}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("return cubes ;return number of  #1", [" cubes", " number of #1"]),
        ("cubes ; #1 that are blue", ["cubes", "#1 that are blue"]),
        ("return\tflights\n ;return #1 returned", [" flights", " #1 ed"]),
        ("return a ;return b;", [" a", " b", ""]),
        ("", [""]),
        ("return", [""]),
    ],
)
def test_break_steps(text: str, steps: list[str]) -> None:
    assert break_steps(text) == steps


def test_read_strategyqa_takes_question_and_steps(tmp_path: Path) -> None:
    rows = list(read_strategyqa(written(tmp_path / "train.json", [GOOD])))
    assert rows == [{"question": GOOD["question"], "sub_questions": GOOD["decomposition"]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[\n{"question": }\n]',
            ": line 2 column 14: not JSON: Expecting value; correct the file or download it again",
        ),
        ("", ": line 1 column 1: not JSON: Expecting value; correct the file or download it again"),
        (
            {"rows": "x" * 80},
            ': the file must be a JSON list of rows, not {"rows": "' + "x" * 47 + "...",
        ),
        ([GOOD, "x"], ': row 2: a row must be an object with fields, not "x"'),
        ([GOOD, {"decomposition": []}], ": row 2: the field 'question' is missing; add it or remove the row"),
        ([{"question": "x"}], ": row 1: the field 'decomposition' is missing; add it or remove the row"),
    ],
)
def test_malformed_files_are_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path / "train.json", content)
    with pytest.raises(UserError) as caught:
        convert("strategyqa", "jsonl", path, tmp_path / "new" / "rows.jsonl")
    assert str(caught.value) == f"{path}{message}"
    assert [file.name for file in tmp_path.iterdir()] == ["train.json"]


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    with pytest.raises(UserError) as caught:
        list(read_strategyqa(path))
    assert str(caught.value) == f"{path}: No such file or directory; correct the path"
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UserError) as caught:
        list(read_strategyqa(path))
    assert str(caught.value) == f"{path}: not UTF-8 at byte 2; save the file as UTF-8"
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match="JSON that cannot be read: maximum recursion depth"):
        list(read_strategyqa(path))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([GOOD]), encoding="utf-8-sig")
    assert len(list(read_strategyqa(path))) == 1


def test_convert_collapses_white_space_and_keeps_order(tmp_path: Path) -> None:
    messy = {"question": " Is  it\n late? ", "decomposition": [" What\ttime is it? ", "Is  #1 é late?"]}
    source, target = written(tmp_path / "train.json", [GOOD, messy]), tmp_path / "new" / "deep" / "rows.jsonl"
    assert convert("strategyqa", "jsonl", source, target) == ConvertReport(2, ())
    assert lines(target) == [
        {"question": GOOD["question"], "sub_questions": GOOD["decomposition"]},
        {"question": "Is it late?", "sub_questions": ["What time is it?", "Is #1 é late?"]},
    ]
    assert "é" in target.read_text(encoding="utf-8")
    assert [file.name for file in target.parent.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decomposition": ["a", "b #2"]}, "step 2 refers to itself (#2)"),
        ({"decomposition": ["a #2", "b"]}, "step 1 refers forward to #2"),
        ({"decomposition": ["a", "b #3"]}, "step 2 refers to #3, but there are 2 steps"),
        ({"decomposition": ["a", " \n"]}, "step 2 is empty"),
        ({"decomposition": []}, "there are no steps"),
        ({"decomposition": ["", "#2"]}, "step 1 is empty; step 2 refers to itself (#2)"),
        ({"decomposition": "a"}, 'the sub-questions are not a list but "a"'),
        ({"decomposition": ["a", None]}, "step 2 is not text but null"),
        ({"question": " \n "}, "the question is empty"),
        ({"question": 7}, "the question is not text but 7"),
        ({"question": "\ud83d"}, "half of a surrogate pair (\\ud800-\\udfff) stands in a text"),
    ],
)
def test_unusable_rows_are_dropped_and_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    source, target = written(tmp_path / "train.json", [GOOD, GOOD | change, GOOD]), tmp_path / "rows.jsonl"
    report = convert("strategyqa", "jsonl", source, target)
    assert report == ConvertReport(2, (f"{source}: row 2: {reason}",))
    assert lines(target) == [{"question": GOOD["question"], "sub_questions": GOOD["decomposition"]}] * 2


def test_convert_never_overwrites(tmp_path: Path) -> None:
    source, target = written(tmp_path / "train.json", [GOOD]), written(tmp_path / "rows.jsonl", "mine")
    for existing in (source, target):
        before = existing.read_text(encoding="utf-8")
        with pytest.raises(UserError) as caught:
            convert("strategyqa", "jsonl", source, existing)
        assert str(caught.value) == f"{existing} exists; delete it or choose another name"
        assert existing.read_text(encoding="utf-8") == before


def test_a_target_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "train.json", [GOOD])
    with pytest.raises(UserError) as caught:
        convert("strategyqa", "jsonl", source, source / "rows.jsonl")
    message = f"{source / 'rows.jsonl'}: File exists; choose a target that can be written"
    assert str(caught.value) == message


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = written(tmp_path / "train.json", [GOOD]), tmp_path / "rows.jsonl"

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError) as caught:
        convert("strategyqa", "jsonl", source, target)
    assert str(caught.value) == f"{target}: No space left on device; choose a target that can be written"
    assert [file.name for file in tmp_path.iterdir()] == ["train.json"]


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        convert("squad", "jsonl", tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == "there is no source format 'squad'; choose one of: strategyqa"
    with pytest.raises(UserError) as caught:
        convert("strategyqa", "csv", tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == "there is no target format 'csv'; choose one of: jsonl"


@pytest.mark.skipif(not STRATEGYQA.is_file(), reason=f"StrategyQA's training file is not at {STRATEGYQA}")
def test_all_of_strategyqa_converts(tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    assert convert("strategyqa", "jsonl", STRATEGYQA, target) == ConvertReport(2061, ())
    records = read_records(target)
    for record in records:
        validate(record)
    counts = [len(record.row["sub_questions"]) for record in records]
    assert {number: counts.count(number) for number in sorted(set(counts))} == {
        1: 15, 2: 564, 3: 1096, 4: 315, 5: 71,
    }  # fmt: skip
    for record in records:
        steps = tuple(record.row["sub_questions"])
        assert Decomposition.parse(Decomposition(steps).render()).steps == steps
