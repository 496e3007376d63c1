"""Converting files: nothing lost unseen, nothing half-written, and back again where a format holds everything."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import TEST_DATA

from qdsft.data.decomposition import REFERENCE, Decomposition
from qdsft.data.formats import READERS, WRITERS
from qdsft.data.formats.convert import ConvertReport, convert, losses
from qdsft.data.readers import stream_records
from qdsft.data.record import Record, RowError
from qdsft.data.validation import validate
from qdsft.errors import UserError

SHARED = TEST_DATA
REAL = [
    pytest.param("break", "break/QDMR.csv", 5860, {"self reference": 1, "empty step": 1}, marks=pytest.mark.slow),
    pytest.param("break", "break/QDMR-high-level.csv", 2374, {"self reference": 1}),
    pytest.param("break", "break_official_99/labels.csv", 99, {}),
    pytest.param("strategyqa", "strategyqa/train.json", 2061, {}),
]
GOOD = {"qid": "1", "question": "Did Ada outlive Bob?", "decomposition": ["When did Ada die?", "Is #1 late?"]}
ROW = {"question": GOOD["question"], "sub_questions": GOOD["decomposition"], "qid": "1"}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_white_space_order_and_columns(tmp_path: Path) -> None:
    messy = {"question": " Is  it\n late? ", "decomposition": [" What\ttime is it? ", "Is  #1 é late?"]}
    source, target = written(tmp_path / "train.json", [GOOD, messy]), tmp_path / "new" / "deep" / "rows.jsonl"
    assert convert("strategyqa", "jsonl", source, target) == ConvertReport(2)
    assert lines(target) == [ROW, {"question": "Is it late?", "sub_questions": ["What time is it?", "Is #1 é late?"]}]
    assert "é" in target.read_text(encoding="utf-8")
    assert names(target.parent) == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"decomposition": ["a", "b #2"]}, "self reference", "sub_questions: step 2 refers to itself (#2)"),
        ({"decomposition": ["a #2", "b"]}, "forward reference", "sub_questions: step 1 refers forward to #2"),
        ({"decomposition": ["a", "b #3"]}, "dangling reference", "sub_questions: step 2 refers to #3, but there are 2"),
        ({"decomposition": ["a", " \n"]}, "empty step", "sub_questions: step 2 is empty"),
        ({"decomposition": []}, "no steps", "sub_questions: there are no steps"),
        ({"decomposition": "a"}, "sub_questions not a list of text", 'sub_questions must be a list of text, not "a"'),
        ({"decomposition": ["a\x00"]}, "control character", "sub_questions: step 1 has the control character U+0000"),
        ({"question": " \n "}, "question missing or empty", 'question must be text that is not empty, not ""'),
        ({"question": "\ud83d"}, "half a surrogate pair", "a text has half of a surrogate pair (\\ud800-\\udfff)"),
        (
            {"sub_questions": []},
            "field given twice",
            "the row has a field 'sub_questions' already, which is made from 'question'",
        ),
    ],
)
def test_unusable_rows_are_dropped_and_named(tmp_path: Path, change: dict[str, Any], kind: str, reason: str) -> None:
    rows = ",\n".join(json.dumps(row) for row in (GOOD, GOOD | change, GOOD))
    source, target = written(tmp_path / "train.json", f"[{rows}]"), tmp_path / "rows.jsonl"
    dropped: list[RowError] = []
    report = convert("strategyqa", "jsonl", source, target, on_dropped=dropped.append)
    assert (report.written, report.dropped) == (2, {kind: 1})
    assert len(dropped) == 1 and str(dropped[0]).startswith(f"{source}:2: {reason}")
    assert lines(target) == [ROW, ROW]


def test_a_row_that_the_format_cannot_express_is_dropped_and_named(tmp_path: Path) -> None:
    semicolon = {"question": "q", "sub_questions": ["a; b"]}
    doubling = {"question": "q", "sub_questions": ["Who?", *(f"#{number} #{number}?" for number in range(1, 40))]}
    source = written(tmp_path / "r.jsonl", "\n".join(json.dumps(row) for row in (ROW, semicolon, doubling)))
    for fmt, faulty in (("qdmr", 2), ("llamaindex", 3)):
        dropped: list[RowError] = []
        report = convert("jsonl", fmt, source, tmp_path / fmt, on_dropped=dropped.append)
        assert (report.written, report.dropped) == (2, {f"no {fmt} form": 1})
        assert [error.source for error in dropped] == [f"{source}:{faulty}"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '[{"question": "q", "decomposition": ["a"]},\n{"question": }\n]', ":2: not JSON at column 14: Expe"),
        (
            "a.jsonl",
            '{"question": "q", "decomposition": ["a"]}\n{"ques',
            ":2: not JSON at column 2: Unterminated string",
        ),
        (
            "a.csv",
            'question,decomposition\nq,"a\n',
            ":2: not CSV: unexpected end of data; correct its quotes; the rest",
        ),
        ("a.json", "", ": no rows; give a file with at least one usable row"),
        (
            "a.json",
            {"rows": "x"},
            ": none of its 1 rows can be used; the first: {path}:1: the field 'decomposition' is mi",
        ),
        ("a.json", "[" * 100_000, ":1: nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_to_its_end_is_not_converted_in_part(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        convert("strategyqa", "jsonl", path, tmp_path / "new" / "deep" / "rows.jsonl")
    assert str(caught.value).startswith(f"{path}{message.format(path=path)}")
    assert names(tmp_path) == [name]


def test_bytes_that_are_no_text_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    with pytest.raises(UserError, match=r"train.json: No such file or directory"):
        convert("strategyqa", "jsonl", path, tmp_path / "new" / "rows.jsonl")
    assert names(tmp_path) == []
    path.write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match=r"train.json:1: not UTF-8 at byte 2; save the file as UTF-8"):
        convert("strategyqa", "jsonl", path, tmp_path / "rows.jsonl")


def test_convert_never_overwrites(tmp_path: Path) -> None:
    source, target = written(tmp_path / "train.json", [GOOD]), written(tmp_path / "rows.jsonl", "mine")
    for existing in (source, target):
        before = existing.read_text(encoding="utf-8")
        with pytest.raises(UserError) as caught:
            convert("strategyqa", "jsonl", source, existing)
        assert str(caught.value) == f"{existing} exists; delete it or choose another name"
        assert existing.read_text(encoding="utf-8") == before


def test_targets_that_make_no_sense(tmp_path: Path) -> None:
    source = written(tmp_path / "train.json", [GOOD])
    for arguments, message in (
        (
            ("squad", "jsonl"),
            "there is no source format 'squad'; choose one of: jsonl, csv, break, strategyqa, musique",
        ),
        (("break", "csv"), "there is no target format 'csv'; choose one of: jsonl, self-ask, llamaindex, qdmr, dag, "),
        (("strategyqa", "mermaid"), f"{tmp_path}/out.mmd: a .mmd file holds one chart, this is Markdown with many; "),
    ):
        with pytest.raises(UserError) as caught:
            convert(*arguments, source, tmp_path / "out.mmd")
        assert str(caught.value).startswith(message)
    assert names(tmp_path) == ["train.json"]


def test_columns_without_a_place_are_counted(tmp_path: Path) -> None:
    source = written(tmp_path / "train.json", [GOOD, {**GOOD, "facts": []}])
    assert convert("strategyqa", "mermaid", source, tmp_path / "m.md").left_out == {"qid": 2, "facts": 1}
    assert convert("strategyqa", "qdmr", source, tmp_path / "q.csv").left_out == {"facts": 1}


def test_losses_are_printed() -> None:
    undone = "references between steps become phrases, which cannot be undone"
    assert losses("jsonl") == losses("qdmr") == losses("dag") == ()
    assert losses("jsonl", self_contained=True) == (undone,)
    assert losses("llamaindex") == (undone,)
    assert len(losses("mermaid")) == len(losses("self-ask")) == 1


def test_the_command_line_offers_every_format() -> None:
    assert tuple(READERS) == ("jsonl", "csv", "break", "strategyqa", "musique")
    assert tuple(WRITERS) == ("jsonl", "self-ask", "llamaindex", "qdmr", "dag", "mermaid")


# There and back


def random_rows(seed: int, forbidden: str = "") -> list[dict[str, Any]]:
    choose = random.Random(seed)
    words = [
        "who",
        "return",
        "returned",
        "한국의",
        '"x"',
        "a,b",
        "it's",
        "{y}",
        "50%",
        "é",
        "[z]",
        "#",
        "C#",
        "$",
        "a;b",
    ]
    usable = [word for word in words if not set(word) & set(forbidden)]
    rows = []
    for index in range(200):
        steps = []
        for number in range(choose.randint(1, 6)):
            references = [f"#{choose.randint(1, number)}"] * choose.randint(0, 1) if number else []
            parts = choose.choices(usable, k=choose.randint(1, 5)) + references
            choose.shuffle(parts)
            steps.append(" ".join(parts).replace("# #", "#"))
        question = " ".join(choose.choices(words, k=4))
        rows.append({"question": question, "sub_questions": steps, "question_id": f"r_{index}"})
    return [row for row in rows if Decomposition(tuple(row["sub_questions"])).is_valid]


def test_to_qdmr_and_back(tmp_path: Path) -> None:
    rows = random_rows(1, forbidden=";")
    source = written(tmp_path / "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert convert("jsonl", "qdmr", source, tmp_path / "q.csv") == ConvertReport(len(rows))
    assert convert("break", "jsonl", tmp_path / "q.csv", tmp_path / "back.jsonl") == ConvertReport(len(rows))
    assert lines(tmp_path / "back.jsonl") == rows


def test_to_a_graph_and_back(tmp_path: Path) -> None:
    rows = random_rows(2)
    source = written(tmp_path / "r.json", rows)
    assert convert("jsonl", "dag", source, tmp_path / "dag.jsonl") == ConvertReport(len(rows))
    for row, graph in zip(rows, lines(tmp_path / "dag.jsonl"), strict=True):
        nodes, edges = graph.pop("nodes"), graph.pop("edges")
        assert [node["id"] for node in nodes] == list(range(1, len(nodes) + 1))
        assert {**graph, "sub_questions": [node["text"] for node in nodes]} == row
        steps = Decomposition(tuple(row["sub_questions"]))
        assert tuple((edge["source"], edge["target"]) for edge in edges) == steps.edges


def test_our_rows_stay_what_they_are(tmp_path: Path) -> None:
    rows = random_rows(3)
    convert("jsonl", "jsonl", written(tmp_path / "r.json", rows), tmp_path / "again.jsonl")
    assert lines(tmp_path / "again.jsonl") == rows


# The real files


def real(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


@pytest.mark.parametrize(("source_format", "name", "count", "dropped"), REAL)
def test_every_usable_row_of_the_real_files(
    tmp_path: Path, source_format: str, name: str, count: int, dropped: dict[str, int]
) -> None:
    target = tmp_path / "rows.jsonl"
    assert convert(source_format, "jsonl", real(name), target) == ConvertReport(count, Counter(dropped))
    records = list(stream_records(target))
    for record in records:
        validate(record)
        steps = tuple(record.row["sub_questions"])
        assert Decomposition.parse(Decomposition(steps).render()).steps == steps
    alone = tmp_path / "alone.jsonl"
    assert convert("jsonl", "jsonl", target, alone, self_contained=True) == ConvertReport(count)
    assert not [row for row in lines(alone) if any(REFERENCE.search(step) for step in row["sub_questions"])]


@pytest.mark.parametrize("name", [case.values[1] for case in REAL if case.values[0] == "break"])
@pytest.mark.slow
def test_break_comes_back_as_it_was_up_to_white_space(tmp_path: Path, name: str) -> None:
    def cells(path: Path, without: set[str]) -> list[dict[str, str]]:
        rows = [row.row for row in READERS["csv"].read(path) if isinstance(row, Record) and row.source not in without]
        return [{name: re.sub(r" ?; ?", ";", " ".join(cell.split())) for name, cell in row.items()} for row in rows]

    source = real(name)
    dropped: list[RowError] = []
    convert("break", "jsonl", source, tmp_path / "rows.jsonl", on_dropped=dropped.append)
    assert convert("jsonl", "qdmr", tmp_path / "rows.jsonl", tmp_path / "back.csv").dropped == {}
    before, after = cells(source, {error.source for error in dropped}), cells(tmp_path / "back.csv", set())
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert len(after) >= 99


@pytest.mark.parametrize("fmt", ["self-ask", "llamaindex", "qdmr", "dag", "mermaid"])
def test_strategyqa_in_every_format(tmp_path: Path, fmt: str) -> None:
    report = convert("strategyqa", fmt, real("strategyqa/train.json"), tmp_path / "out")
    assert report.written == (2060 if fmt == "qdmr" else 2061)
    assert report.dropped == ({"no qdmr form": 1} if fmt == "qdmr" else {})


FACTS = [{**GOOD, "facts": ["A.", "B."]}, {**GOOD, "question": "Is B it?", "facts": ["B.", "C."]}]


def test_passages_become_a_corpus(tmp_path: Path) -> None:
    dropped = {**GOOD, "decomposition": ["a #9"], "facts": ["D."]}
    source, target = written(tmp_path / "train.json", [*FACTS, dropped, GOOD]), tmp_path / "rows.jsonl"
    report = convert("strategyqa", "jsonl", source, target, corpus=tmp_path / "corpus.jsonl")
    assert (report.written, report.dropped.total(), report.passages) == (3, 1, 4)
    corpus = lines(tmp_path / "corpus.jsonl")
    assert [passage["text"] for passage in corpus] == ["A.", "B.", "C.", "D."]
    a, b, c, _ = (passage["id"] for passage in corpus)
    assert [row.get("evidence") for row in lines(target)] == [[a, b], [b, c], None]
    assert all("facts" not in row for row in lines(target))


@pytest.mark.parametrize(
    ("rows", "target_format", "corpus", "message"),
    [
        ([GOOD], "jsonl", "c.jsonl", "no row has passages"),
        (FACTS, "llamaindex", "c.jsonl", "llamaindex does not keep the column evidence"),
        (FACTS, "jsonl", "out.jsonl", "is the target of the rows"),
        ([{**GOOD, "facts": 1}], "jsonl", "c.jsonl", "the passages in 'facts' cannot be read"),
    ],
)
def test_no_corpus_is_left_half_written(
    tmp_path: Path, rows: list[Any], target_format: str, corpus: str, message: str
) -> None:
    source = written(tmp_path / "train.json", rows)
    with pytest.raises(UserError, match=message):
        convert("strategyqa", target_format, source, tmp_path / "out.jsonl", corpus=tmp_path / corpus)
    assert names(tmp_path) == ["train.json"]
