"""The data set of sampled steps: no held-out question, one line for what cannot be done, and nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.split_run import make_split_run, read_rows, write_rows

from qdsft.data.synth import generate
from qdsft.errors import UserError
from qdsft.inference.improved_rows import Counts, Files, make_goal, training_rows
from qdsft.inference.improved_rows import write_rows as write_data
from qdsft.inference.loaded_run import load_prompts
from qdsft.inference.sample import SampleSettings
from qdsft.runs.eval_rows import read_eval_rows, write_eval_rows
from qdsft.scoring.improvement import Keep, choose

SETTINGS = SampleSettings(samples=2)
BAD, GOOD = ["What is omega?", "How old is #1?"], "1. What is alpha?\n2. How old is #1?"


def row(number: int, steps: list[str] = BAD, **columns: Any) -> dict[str, Any]:
    return {"question": f"Who is number {number}?", "sub_questions": steps, "evidence": ["0"], **columns}


PERFECT = row(3, ["What is alpha?"])
TRAIN = [row(1), row(2), PERFECT, row(1, ["Who?"]), {**row(4), "question": "who is  NUMBER 4?"}, row(5, evidence=[])]
CORPUS = [{"id": "0", "text": "alpha"}, *({"id": str(place), "text": f"number {place}"} for place in range(1, 30))]


@pytest.fixture(scope="module")
def made(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("improved")
    make_split_run(folder, tiny_model("llama"), TRAIN, [row(4), row(6)])
    write_rows(folder / "corpus.jsonl", CORPUS)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder in which a run, its corpus and its log of samples can be changed."""
    return Path(shutil.copytree(made, tmp_path / "made"))


def write(folder: Path, *, keep: Keep | None = None, limit: int | None = None) -> Counts:
    """Make the data set in folder/out."""
    run_dir = folder / "run"
    run, held_out = load_prompts(run_dir), read_eval_rows(run_dir)
    rows = training_rows(run, held_out)
    goal = make_goal(folder / "corpus.jsonl", keep, [one.record.row for one in rows])
    (folder / "out").mkdir(exist_ok=True)
    return write_data(run, goal, rows, held_out, Files(folder / "out"), SETTINGS, limit)


def answer(folder: Path, *texts: str, keep: Keep | None = None, limit: int | None = None) -> list[int]:
    """Let the model draw its nonsense, then put these texts in its place; return which questions were asked."""
    with pytest.raises(UserError, match="so there is nothing to train on"):
        write(folder, keep=keep, limit=limit)
    identity, *samples = read_rows(Files(folder / "out").samples)
    drawn = [{"index": one["index"], "texts": texts, "stopped": [True] * len(texts)} for one in samples]
    write_rows(Files(folder / "out").samples, [identity, *drawn])
    return [one["index"] for one in samples]


def test_only_training_questions_that_can_be_improved_are_asked(folder: Path) -> None:
    asked = answer(folder, "no list", GOOD)
    assert len(asked) == 2  # numbers 1 and 2: 3 is perfect, 4 is held out, 5 has no evidence
    counts = write(folder)
    assert counts == Counts(rows=5, asked=2, samples=4, usable=2, replaced=3)
    rows = read_rows(Files(folder / "out").train)
    assert [one["question"] for one in rows] == [f"Who is number {number}?" for number in (1, 2, 3, 1, 5)]
    steps = ["What is alpha?", "How old is #1?"]
    assert [one["sub_questions"] for one in rows] == [steps, steps, ["What is alpha?"], steps, BAD]
    provenance = rows[1]["provenance"]
    assert provenance["row"].endswith("train.jsonl:2") and provenance["run"] == str(folder / "run")
    assert (provenance["sample"], provenance["seed"], provenance["scores"]) == (1, 0, [1.0, 1.0])
    assert [one["provenance"]["sample"] for one in rows] == [1, 1, None, 1, None]
    assert rows[4]["provenance"]["own_scores"] is None
    assert [one["question"] for one in read_rows(Files(folder / "out").held_out)] == [
        "Who is number 4?",
        "Who is number 6?",
    ]


def test_a_limit_leaves_the_other_rows_as_they_are_and_can_be_raised(folder: Path) -> None:
    assert len(answer(folder, GOOD, GOOD, limit=1)) == 1
    assert write(folder, limit=1).asked == 1
    counts = write(folder)
    assert (counts.asked, counts.rows) == (2, 5)


def test_equal_steps_are_taken_only_if_asked_for(folder: Path) -> None:
    assert len(answer(folder, "1. What is alpha, friend?", GOOD, keep="equal")) == 3
    write(folder, keep="equal")
    perfect = read_rows(Files(folder / "out").train)[2]
    assert perfect["sub_questions"] == ["What is alpha, friend?"]


def test_nothing_of_a_training_that_has_begun_is_replaced(folder: Path) -> None:
    answer(folder, GOOD, GOOD, limit=1)
    write(folder, limit=1)
    files = Files(folder / "out")
    shutil.copytree(folder / "run", files.run)
    before = files.train.read_bytes()
    write(folder, limit=1)
    answered = files.samples.read_text(encoding="utf-8").splitlines()
    other = {**json.loads(answered[1]), "texts": ["1. What is alpha now?"] * 2}
    write_rows(files.samples, [json.loads(answered[0]), other])
    with pytest.raises(UserError, match="was trained on other rows than these; choose another --output"):
        write(folder, limit=1)
    assert files.train.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, row(7)],
        lambda rows: [{**rows[0], "sub_questions": ["Who else?"]}, *rows[1:]],
    ],
    ids=["row removed", "row added", "steps changed"],
)
def test_rows_that_have_changed_since_are_refused(
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], made: Path
) -> None:
    data = made / "train.jsonl"
    before = data.read_bytes()
    try:
        write_rows(data, change(read_rows(data)))
        with pytest.raises(UserError, match="have changed since the run was trained; put them back"):
            write(made)
    finally:
        data.write_bytes(before)


def test_a_training_question_that_is_held_out_is_refused(folder: Path) -> None:
    run = load_prompts(folder / "run")
    leaked = training_rows(run, [])[1]
    write_eval_rows(folder / "run", [leaked._replace(messages=({"role": "user", "content": "WHO is number 2?"},))])
    with pytest.raises(UserError, match=r"train.jsonl:2: the question is also held out"):
        write(folder)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([{"id": "1", "text": "x"}], 'the evidence "0" is no id and no text in'),
        ([{"id": "0"}], "text must be text that is not empty"),
        ([CORPUS[0], CORPUS[0]], 'the id "0" is that of the passage in'),
        ([], "there are no rows"),
        ([{"id": "0", "text": "number alpha"}], "no training row can be improved"),
    ],
)
def test_a_corpus_that_does_not_serve_is_one_line(corpus: list[dict[str, str]], message: str, folder: Path) -> None:
    write_rows(folder / "corpus.jsonl", corpus)
    with pytest.raises(UserError, match=message):
        write(folder)


def test_another_right_way_to_the_answer_replaces_the_steps_of_a_world_row() -> None:
    rows = [one for one in generate("en", 60, 0) if "difference between #1 and #2" in one["sub_questions"][-1]]
    goal = make_goal(None, None, rows)
    assert goal.keep == "equal" and len(rows) > 1
    for one in rows:
        first, second, last = one["sub_questions"]
        swapped = (second, first, "What is the difference between #2 and #1?")
        assert choose(goal, one, [(first, "Who knows?", last), None, swapped]).sample == 2
        assert choose(goal, one, [(first, first, last)]).sample is None
