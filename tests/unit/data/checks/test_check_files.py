"""All problems of all files, with the same errors as training."""

from __future__ import annotations

import json
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from qdsft.cli.main import main
from qdsft.data.checks.check_files import Inputs, check_files
from qdsft.data.checks.problems import Tally
from qdsft.data.formats import READERS
from qdsft.data.readers import stream_records
from qdsft.data.validation import validate
from qdsft.errors import UserError

GOOD = {"question": "Which river of Seoul is longest?", "sub_questions": ["Which rivers has it?", "Which of #1?"]}
OTHER = {"question": "Is the moon nearer than the sun?", "sub_questions": ["How far?", "How far is it?", "#1 < #2?"]}
RECIPE = "model: {name_or_path: user/model}\ndata: {train: t.jsonl, eval: e.jsonl}\n"
SUMMARY = RECIPE + 'prompt: {user: "Sum up: {{ text }}", completion: "{{ sum }}"}\n'

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(name: str, *rows: Any) -> Path:
    """A file with a line for each row; text stands there as it is."""
    path = Path(name)
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def found(*names: str, held_out: str | None = None) -> list[tuple[str, str, str]]:
    """(level, kind, source) of every problem."""
    inputs = Inputs(tuple(map(Path, names)), Path(held_out) if held_out else None)
    return [(problem.level, problem.kind, problem.source) for problem in check_files(inputs, Tally())]


def steps(*texts: str) -> dict[str, Any]:
    return {**GOOD, "sub_questions": list(texts)}


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("not JSON", "{"),
        ("not an object", "[1]"),
        ("field given twice", '{"question": "a", "question": "b", "sub_questions": ["c", "#1"]}'),
        ("NaN or infinity", '{"question": "a", "sub_questions": ["c", "#1"], "x": NaN}'),
        ("half a surrogate pair", '{"question": "\\ud800", "sub_questions": ["c", "#1"]}'),
        ("question missing or empty", {"sub_questions": ["a", "#1"]}),
        ("question missing or empty", {**GOOD, "question": " "}),
        ("sub_questions missing or empty", {"question": "a?"}),
        ("sub_questions not a list of text", {**GOOD, "sub_questions": "a"}),
        ("sub_questions not a list of text", {**GOOD, "sub_questions": ["a", 1]}),
        ("no steps", steps()),
        ("empty step", steps("a", " ", "#1")),
        ("line break", steps("a\nb", "#1")),
        ("self reference", steps("a", "#2 #1")),
        ("dangling reference", steps("a", "#1 #3")),
        ("forward reference", steps("a #2", "#1")),
        ("control character", steps("a\x00b", "#1")),
        ("control character", {**GOOD, "question": "a\x1b?"}),
        ("numbered steps", steps("1. a", "2. #1")),
        ("too many steps", steps(*["a"] * 1001)),
    ],
)
def test_an_error_is_one_that_training_raises(kind: str, row: Any) -> None:
    lines("d.jsonl", GOOD, row)
    errors = [(kind, source) for level, kind, source in found("d.jsonl") if level == "error"]
    assert (kind, "d.jsonl:2") in errors and {source for _, source in errors} == {"d.jsonl:2"}
    with pytest.raises(UserError, match=r"^d\.jsonl:2: "):
        for record in stream_records(Path("d.jsonl")):
            validate(record)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "questoin,sub_questions",
            "the column 'question' is missing; is it 'questoin'? rename it; see data/DATA_FORMAT.md",
        ),
        ("id,answer", "the first line must be a header with question and sub_questions; it has id, answer; see"),
        ("Who is X of Y?,Who is Y?", "the first line must be a header with question and sub_questions; it has Who is"),
        ("id,question", "the column 'sub_questions' is missing; the header has id, question; see data/DATA_FORMAT.md"),
        ("question,answer", "the column 'sub_questions' is missing; the header has question, answer; see"),
        ("질의,하위질문", "the column 'question' is missing; the header has 질의, 하위질문, sub_questions; see"),
    ],
)
@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.parquet"])
def test_a_wrong_header_is_one_message(header: str, message: str, name: str) -> None:
    names = header.split(",")
    if name == "d.parquet":
        parquet.write_table(arrow.table({column: ["a", "b", "c"] for column in names}), name)
    else:
        separator = "\t" if name == "d.tsv" else ","
        Path(name).write_text("".join(separator.join(cells) + "\n" for cells in (names, *[["a", "b"]] * 3)))
    found = [problem for problem in check_files(Inputs((Path(name),)), Tally()) if problem.level == "error"]
    assert found[0].message.startswith(message)
    assert [problem.kind for problem in found].count("column missing") == 1
    assert len({problem.source for problem in found}) == 1, "only the first row is named"


def test_a_wrong_header_of_another_project_is_one_message() -> None:
    Path("d.csv").write_text("question_text,steps\na,b\na,b\n")
    inputs = Inputs((Path("d.csv"),), read=READERS["break"].read)
    [problem] = check_files(inputs, Tally())
    assert problem.message.startswith("the field 'decomposition' is missing; this row has question_text, steps")


@pytest.mark.parametrize("name", ["d.xlsx", "d.csv"])
def test_a_workbook_is_one_message(name: str) -> None:
    Path(name).write_bytes(b"PK\x03\x04" + b"\n\xff" * 500)
    [problem] = check_files(Inputs((Path(name),)), Tally())
    assert 'save it as "CSV UTF-8"' in problem.message


def test_rows_with_their_own_numbers_are_written_without_them(capsys: Capture) -> None:
    lines("d.jsonl", GOOD, steps("1. A?", "2. #1?"), steps("(1) A?", "(2) "), steps("1. A?", "2. #7?"))
    assert main(["data", "check", "d.jsonl", "--write-clean", "clean.jsonl"]) == 1
    written = [json.loads(line)["sub_questions"] for line in Path("clean.jsonl").read_text().splitlines()]
    assert written == [GOOD["sub_questions"], ["A?", "#1?"]]
    assert capsys.readouterr().err == (
        "clean.jsonl: 2 rows written (1 without their own step numbers), 2 dropped: 2 numbered steps\n"
    )
    assert main(["data", "check", "clean.jsonl"]) == 0


def test_good_rows_give_nothing() -> None:
    lines("d.jsonl", GOOD, OTHER)
    tally = Tally()
    assert list(check_files(Inputs((Path("d.jsonl"),)), tally)) == []
    assert (tally.total, tally.clean, tally.unusable, tally.warned) == (2, 2, 0, 0)


def test_all_problems_of_several_files_and_rows_are_named() -> None:
    lines("a.jsonl", GOOD, "{", steps("a", "#5 #2", ""), OTHER)
    lines("b.jsonl", GOOD, steps("x"), {"question": 1})
    Path("empty.jsonl").touch()
    tally = Tally()
    inputs = Inputs((Path("a.jsonl"), Path("gone.jsonl"), Path("empty.jsonl"), Path("b.jsonl")))
    problems = [(problem.level[0], problem.kind, problem.source) for problem in check_files(inputs, tally)]
    assert problems == [
        ("e", "not JSON", "a.jsonl:2"),
        ("e", "empty step", "a.jsonl:3"),
        ("e", "self reference", "a.jsonl:3"),
        ("e", "dangling reference", "a.jsonl:3"),
        ("w", "unused step", "a.jsonl:3"),
        ("e", "file not read", "gone.jsonl"),
        ("e", "no rows", "empty.jsonl"),
        ("w", "question repeated", "b.jsonl:1"),
        ("w", "one step only", "b.jsonl:2"),
        ("w", "same question, other answer", "b.jsonl:2"),
        ("e", "question missing or empty", "b.jsonl:3"),
        ("e", "sub_questions missing or empty", "b.jsonl:3"),
    ]
    assert (tally.total, tally.clean, tally.unusable, tally.warned) == (7, 2, 3, 2)
    assert tally.failed(strict=False)


def test_an_unusable_row_is_no_first_one() -> None:
    lines("d.jsonl", steps("a", "#7"), GOOD)
    assert ("warning", "same question, other answer", "d.jsonl:2") not in found("d.jsonl")


def test_held_out_questions_in_the_training_data() -> None:
    question = "한반도에서 가장 긴 강은 어느 산맥에서 시작되어 어느 바다로 흘러가나요?"
    rows = [{**GOOD, "question": text} for text in (question, "전혀 다른 질문은 무엇인가요?")]
    lines("e.jsonl", *rows, rows[1])
    nfd = unicodedata.normalize("NFD", question)
    lines("t.jsonl", OTHER, {**GOOD, "question": nfd}, {**GOOD, "question": nfd.replace("?", "").replace(" ", "", 1)})
    assert [item for item in found("t.jsonl", held_out="e.jsonl") if item[1] != "another language"] == [
        ("warning", "question repeated", "e.jsonl:3"),
        ("warning", "question is held out", "t.jsonl:2"),
        ("warning", "nearly held out", "t.jsonl:3"),
    ]


def test_a_recipe_without_files_takes_its_own(capsys: Capture) -> None:
    Path("r.yaml").write_text(RECIPE)
    lines("t.jsonl", GOOD, steps("a", "#3"))
    lines("e.jsonl", GOOD)
    assert main(["data", "check", "--recipe", "r.yaml"]) == 1
    out = capsys.readouterr().out
    assert "t.jsonl:1: warning: e.jsonl:1 has the same question" in out
    assert "t.jsonl:2: error: sub_questions: step 2 refers to #3" in out
    assert "lengths were not checked: there is no user/model/tokenizer.json on this machine" in out
    Path("t.jsonl").unlink()
    assert main(["data", "check", "--recipe", "r.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: r.yaml:2: data.train: there is no file t.jsonl")


def test_data_on_the_hub_is_reported(capsys: Capture) -> None:
    Path("r.yaml").write_text(RECIPE.replace("t.jsonl", "user/data").replace("e.jsonl", "user/eval"))
    assert main(["data", "check", "--recipe", "r.yaml"]) == 1
    assert "data.train: user/data is on the Hub; name a FILE" in capsys.readouterr().err
    Path("r.yaml").write_text(RECIPE.replace("e.jsonl", "user/eval"))
    lines("t.jsonl", GOOD)
    assert main(["data", "check", "--recipe", "r.yaml"]) == 0
    assert "data.eval was not checked: user/eval is on the Hub" in capsys.readouterr().out


def test_another_task_needs_its_own_columns(capsys: Capture) -> None:
    Path("r.yaml").write_text(SUMMARY)
    rows = [{"text": "a", "sum": "b"}, {"text": "c"}, {"text": "d", "sum": " "}, {"text": "A ", "sum": "c"}]
    lines("t.jsonl", *rows, {"text": "f\ufffd", "sum": "g"})
    assert main(["data", "check", "t.jsonl", "--recipe", "r.yaml", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [(problem["kind"], problem["source"]) for problem in report["problems"]] == [
        ("column missing", "t.jsonl:2"),
        ("empty completion", "t.jsonl:3"),
        ("same question, other answer", "t.jsonl:4"),
        ("lost character", "t.jsonl:5"),
    ]
    assert report["problems"][0]["message"].startswith("prompt.completion: 'sum' is undefined")


def test_a_decomposition_with_its_own_wording_needs_its_columns_too() -> None:
    Path("r.yaml").write_text(RECIPE + 'prompt: {user: "{{ context }} {{ question }}"}\n')
    lines("t.jsonl", {**GOOD, "context": "x"}, GOOD, {**steps("#1"), "context": "x"})
    from qdsft.recipe import load_recipe

    inputs = Inputs((Path("t.jsonl"),), recipe=load_recipe("r.yaml"))
    errors = [(item.kind, item.source) for item in check_files(inputs, Tally()) if item.level == "error"]
    assert errors == [("column missing", "t.jsonl:2"), ("self reference", "t.jsonl:3")]


@pytest.mark.parametrize(("limit", "long"), [(20, False), (2, True), (None, False)])
def test_lengths_with_a_local_tokenizer(
    tiny_model: Callable[[str], Path], capsys: Capture, limit: int | None, long: bool
) -> None:
    recipe = f"model: {{name_or_path: {tiny_model('llama')}}}\ndata: {{train: t.jsonl}}\nprompt: {{system: ''}}\n"
    Path("r.yaml").write_text(recipe + f"training: {{max_length: {json.dumps(limit)}}}\n")
    row = {"question": "Why?", "sub_questions": ["a", "b"]}
    lines("t.jsonl", row)
    assert main(["data", "check", "--recipe", "r.yaml", "--strict"]) == int(long)
    out = capsys.readouterr().out
    assert ("more than training.max_length 2: training stops here" in out) == long
    assert ("lengths were not checked" in out) == (limit is None)


def test_a_broken_tokenizer_is_reported(capsys: Capture) -> None:
    Path("m").mkdir()
    Path("m/tokenizer.json").write_text("{}")
    Path("r.yaml").write_text("model: {name_or_path: ./m}\ndata: {train: t.jsonl}\n")
    lines("t.jsonl", GOOD)
    assert main(["data", "check", "--recipe", "r.yaml"]) == 0
    assert "lengths were not checked: m/tokenizer.json cannot be read" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "limit"), [(10_000, 6)])
def test_memory_does_not_follow_the_rows(rows: int, limit: int) -> None:
    with Path("d.jsonl").open("w") as file:
        for number in range(rows):
            row = {"question": f"What is the number {number}?", "sub_questions": [f"{'x' * 900}?", f"Is #1 {number}?"]}
            file.write(json.dumps(row) + "\n")
    tracemalloc.start()
    assert sum(1 for _ in check_files(Inputs((Path("d.jsonl"),)), Tally())) == 0
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert peak < limit, f"{peak:.1f} MiB"
