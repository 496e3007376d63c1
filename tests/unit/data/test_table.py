"""Headers of tables as people have them."""

from __future__ import annotations

import pytest

from qdsft.data.table import Columns, HeaderError


@pytest.mark.parametrize(
    ("names", "row", "question", "steps"),
    [
        (["질문", "하위질문1", "하위질문2"], {"질문": "q", "하위질문1": "a", "하위질문2": "b"}, "q", ["a", "b"]),
        (
            ["Question", "Step 1", "Step 2", "step 3"],
            {"Question": "q", "Step 1": "a", "Step 2": "b", "step 3": " "},
            "q",
            ["a", "b"],
        ),
        (
            ["question", "sub_question_2", "sub_question_1"],
            {"question": "q", "sub_question_2": "b", "sub_question_1": "a"},
            "q",
            ["a", "b"],
        ),
        (
            ["question", "step1", "step2", "step3"],
            {"question": "q", "step1": "a", "step2": "", "step3": "c"},
            "q",
            ["a", "", "c"],
        ),
        (["question", "step1"], {"question": "q", "step1": None}, "q", []),
    ],
)
def test_question_and_steps_are_found(names: list[str], row: dict[str, str], question: str, steps: list[str]) -> None:
    filled = Columns.of(names).fill(dict(row))
    assert (filled["question"], filled["sub_questions"]) == (question, steps)


def test_a_column_of_all_steps_wins() -> None:
    columns = Columns.of(["question", "sub_questions", "step 1"])
    assert columns.fill({"question": "q", "sub_questions": "x", "step 1": "a"})["sub_questions"] == "x"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["question", "question"], "two columns have one name, 'question'; rename one of them"),
        (["question", "step 1", "Step_1"], "the columns 'step 1' and 'Step_1' both hold step 1; remove one"),
    ],
)
def test_columns_that_cannot_be_told_apart(names: list[str], message: str) -> None:
    with pytest.raises(HeaderError) as error:
        Columns.of(names)
    assert str(error.value) == message


def test_rows_fit_if_only_empty_cells_or_late_steps_are_missing() -> None:
    columns = Columns.of(["question", "step 1", "step 2"])
    assert columns.fit(["q", "a"]) == ["q", "a", ""]
    assert columns.fit(["q", "a", "b", "", " "]) == ["q", "a", "b"]
    assert columns.fit(["q", "a", "b", "c"]) is None
    assert Columns.of(["question", "note"]).fit(["q"]) is None


def test_text_under_no_name_is_an_error_that_names_the_column() -> None:
    names = ["question", *[""] * 26]
    assert Columns.of(names).nameless(["q", *[""] * 26]) is None
    found = Columns.of(names).nameless(["q", *[""] * 25, "x"])
    assert found is not None and found.startswith("column AA has the text 'x' but no name in the header")
