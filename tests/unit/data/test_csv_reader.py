"""Spreadsheets as people have them: one column a step, Korean headers, nameless columns, joined files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from qdsft.data.readers import scan
from qdsft.data.record import Record
from qdsft.data.validation import faults

STEPS = ["A?", "Is #1 B?", "So, #2?"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(content: str, name: str = "d.csv") -> list[Any]:
    """(question, steps) of each row, or the text of each fault."""
    Path(name).write_bytes(content.encode("utf-8"))
    return [
        (row.row["question"], row.row["sub_questions"]) if isinstance(row, Record) else str(row)
        for row in scan(Path(name))
    ]


@pytest.mark.parametrize(
    "header",
    [
        "question,sub_question_1,sub_question_2,sub_question_3",
        "question,sub_questions1,sub_questions2,sub_questions3",
        "Question,Step 1,Step 2,Step 3",
        "question,step_3,step_1,step_2",
        "질문,하위질문1,하위질문2,하위질문3",
        "질문,하위 질문 1,하위 질문 2,하위 질문 3",
        "질문,단계１,단계２,단계３",
        "\ufeffquestion , step1,step2,step3,,",
    ],
)
def test_one_column_a_step(header: str) -> None:
    first = 'Q?,"So, #2?",A?,Is #1 B?' if "step_3," in header else 'Q?,A?,Is #1 B?,"So, #2?"'
    second = "R?,,A?,#1?" if "step_3," in header else "R?,A?,#1?,"
    end = ",," if header.endswith(",,") else ""
    expected = [("Q?", STEPS), ("R?", ["A?", "#1?"])]
    assert found(f"{header}\n{first}{end}\n{second}{end}\n") == expected
    tabs = [
        line.replace('"So, #2?"', "So; #2?").replace(",", "\t").replace(";", ",") for line in (header, first, second)
    ]
    assert found("\n".join(tabs) + "\n", "d.tsv") == expected


def test_one_column_a_step_in_a_parquet_file() -> None:
    rows = [{"질문": "Q?", "step 1": "A?", "step 2": "#1?"}, {"질문": "R?", "step 1": "B?", "step 2": None}]
    parquet.write_table(arrow.Table.from_pylist(rows), "d.parquet")
    records = [row.row for row in scan(Path("d.parquet")) if isinstance(row, Record)]
    assert [(row["question"], row["sub_questions"]) for row in records] == [("Q?", ["A?", "#1?"]), ("R?", ["B?"])]
    assert records[0]["질문"] == "Q?"  # a template may read the column by its own name


def test_korean_names_of_the_two_columns() -> None:
    assert found('질문,하위질문,비고\nQ?,"A?\nIs #1 B?",x\nR?,"[""B?""]",\n') == [("Q?", STEPS[:2]), ("R?", ["B?"])]


def test_columns_of_other_tasks_stay_as_they_are() -> None:
    Path("d.csv").write_text("question,sub_questions,step 1\na,b,c\n")
    assert [row.row for row in scan(Path("d.csv")) if isinstance(row, Record)] == [
        {"question": "a", "sub_questions": ["b"], "step 1": "c"}
    ]
    Path("d.csv").write_text("text,summary\na,b\n")
    assert [row.row for row in scan(Path("d.csv")) if isinstance(row, Record)] == [{"text": "a", "summary": "b"}]


@pytest.mark.parametrize("row", ["Q?,A?,,#1?", "Q?,,A?,B?", "Q?,A?, ,B?"])
def test_a_hole_between_steps_is_an_empty_step(row: str) -> None:
    Path("d.csv").write_text(f"question,step 1,step 2,step 3\n{row}\n")
    [record] = scan(Path("d.csv"))
    assert isinstance(record, Record)
    assert "empty step" in [fault.kind for fault in faults(record)]


def test_a_missing_step_column_is_an_empty_step() -> None:
    assert found("question,step 1,step 3\nQ?,A?,B?\n") == [("Q?", ["A?", "", "B?"])]


def test_empty_cells_at_the_end() -> None:
    """Spreadsheets write them and leave them out as they like."""
    assert found("question,step 1,step 2\nQ?,A?,#1?,,,\nR?,A?\n") == [("Q?", ["A?", "#1?"]), ("R?", ["A?"])]
    [fault] = found("question,step 1,note\nQ?,A?\n")
    assert fault.startswith("d.csv:2: 2 cells, but the header has 3 columns")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "question,sub_questions,,\nQ?,A?,B?,\nR?,A?,B?,C?\n",
            "d.csv:2: column C has the text 'B?' but no name in the header; name it (one column a step: step 1, ",
        ),
        (",question,sub_questions\n1,Q?,A?\n2,R?,A?\n", "d.csv:2: column A has the text '1' but no name"),
        ("question,step 1,Step_1\nQ?,A?,B?\nR?,A?,B?\n", "d.csv:1: the columns 'step 1' and 'Step_1' both hold step 1"),
        ("step 1,step 1\nQ?,A?\n", "d.csv:1: two columns have one name, 'step 1'; rename one of them"),
    ],
)
def test_a_wrong_header_is_one_message(content: str, message: str) -> None:
    [fault] = found(content)
    assert fault.startswith(message)


def test_joined_tables_are_named() -> None:
    head = "question,sub_questions\n"
    [_, fault, last] = found(f"{head}Q?,A?\n{head}R?,B?\n")
    assert fault == "d.csv:3: this is the header again: files were joined; remove this line" and last == ("R?", ["B?"])
    [_, fault, last] = found(f"{head}Q?,A?\n\ufeff{head}R?,B?\n")
    assert fault.startswith("d.csv:3: a byte order mark (U+FEFF) in mid-file: files were joined;")
    assert last == ("R?", ["B?"])


def test_a_column_after_z() -> None:
    header = ",".join(["question", "sub_questions", *[f"c{number}" for number in range(25)], ""])
    [fault] = found(header + "\n" + ",".join(["x"] * 28) + "\n")
    assert fault.startswith("d.csv:2: column AB has the text 'x'")
