"""The split: deterministic, without leaks, unmoved by new rows; and the fingerprints of what it gives."""

from __future__ import annotations

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.refusals import refusal

from qdsft.data.examples import Example, examples_sha256
from qdsft.data.record import Record
from qdsft.data.sources import file_records, is_on_hub
from qdsft.data.split import Side, SplitTally, assign_sides, nothing_held_out, stream_split
from qdsft.data.task import make_task, task_of
from qdsft.data.text import question_hash
from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.sections import Prompt

TASK = task_of(Prompt())


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("model: {name_or_path: m}\ndata:\n  train: t.jsonl\n", encoding="utf-8")


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("r.yaml", overrides)


def row_of(question: str, step: str = "a") -> dict[str, Any]:
    return {"question": question, "sub_questions": [step]}


def examples_of(questions: Sequence[str]) -> list[Example]:
    return [TASK.example(Record(row_of(question), f"t:{n}")) for n, question in enumerate(questions, start=1)]


def written(name: str, questions: Sequence[str]) -> None:
    lines = [json.dumps(row_of(question), ensure_ascii=False) for question in questions]
    Path(name).write_text("\n".join(lines), encoding="utf-8")


@dataclass
class Split:
    train: list[Example]
    eval: list[Example]
    left_out: int
    tally: SplitTally


def collected(stream: Iterable[tuple[Side, Example]]) -> Split:
    split = Split([], [], 0, SplitTally())
    for side, example in stream:
        split.tally.add(side, example)
        if side == "left_out":
            split.left_out += 1
        else:
            (split.train if side == "train" else split.eval).append(example)
    return split


def split_of(questions: Sequence[str], *overrides: str, held_out: Sequence[str] | None = None) -> Split:
    evaluation = None if held_out is None else examples_of(held_out)
    return collected(assign_sides(examples_of(questions), evaluation, recipe_of(*overrides)))


def questions_of(examples: Sequence[Example]) -> list[str]:
    return [example.question for example in examples]


def leaks(split: Split) -> set[str]:
    """What the contract excludes: questions on both sides, after normalising."""
    sides = [{question_hash(example.question) for example in side} for side in (split.train, split.eval)]
    return sides[0] & sides[1]


QUESTIONS = [f"Question number {n}?" for n in range(400)]


def test_a_row_becomes_messages_and_an_answer() -> None:
    record = Record({"question": "q?", "sub_questions": ["a", "#1?"]}, "t:1")
    assert list(map(TASK.example, [record])) == [Example(record, tuple(TASK.messages(record)), "1. a\n2. #1?")]
    assert next(map(TASK.example, [record])).question == "q?"


def test_rendering_names_the_first_row_that_is_unusable() -> None:
    records = [Record(row_of("q"), "t:1"), Record({"question": "q"}, "t:2"), Record({}, "t:3")]
    assert refusal(lambda: list(map(TASK.example, records))).startswith("t:2: the field 'sub_questions' is missing")


def test_the_split_is_deterministic_and_about_as_large_as_asked() -> None:
    split = split_of(QUESTIONS, "data.eval_fraction=0.25")
    again = split_of(QUESTIONS, "data.eval_fraction=0.25")
    assert (split.train, split.eval) == (again.train, again.eval)
    assert len(split.train) + len(split.eval) == 400
    assert 70 <= len(split.eval) <= 130
    assert split.left_out == 0
    # the very rows, worked out from SHA-256 alone: no release may move them
    held_out = questions_of(split_of(QUESTIONS[:30], "data.eval_fraction=0.1").eval)
    assert held_out == [QUESTIONS[4], QUESTIONS[11], QUESTIONS[17]]


def test_the_hash_is_that_of_the_normalised_text() -> None:
    # printf 'what?' | sha256sum
    assert question_hash(" WHAT？\n") == "2cc9a59ae14e48454a6a01a2e286a525b9f2d6201a205dec4fbbb8f9755ef363"


def test_the_order_of_the_rows_is_kept_and_decides_nothing() -> None:
    shuffled = list(QUESTIONS)
    random.Random(1).shuffle(shuffled)
    split, other = split_of(QUESTIONS), split_of(shuffled)
    assert set(questions_of(split.eval)) == set(questions_of(other.eval))
    assert questions_of(split.train) == [question for question in QUESTIONS if question not in questions_of(split.eval)]


def test_more_rows_move_no_row() -> None:
    few, many = split_of(QUESTIONS[:200]), split_of(QUESTIONS)
    assert set(questions_of(few.train)) <= set(questions_of(many.train))
    assert set(questions_of(few.eval)) <= set(questions_of(many.eval))


def test_a_larger_share_moves_rows_one_way_only() -> None:
    small, large = split_of(QUESTIONS, "data.eval_fraction=0.1"), split_of(QUESTIONS, "data.eval_fraction=0.3")
    assert set(questions_of(small.eval)) < set(questions_of(large.eval))


def test_a_share_of_nothing() -> None:
    split = split_of(QUESTIONS, "data.eval_fraction=0")
    assert (len(split.train), len(split.eval)) == (400, 0)


VARIANTS: list[tuple[str, str]] = [
    ("who is a?", "WHO IS A?"),
    ("who is a?", "  who\tis \n a? "),
    ("who is a?", "ｗｈｏ　ｉｓ　ａ？"),
    ("straße?", "STRASSE?"),
    ("한국의 수도는?", unicodedata.normalize("NFD", "한국의 수도는?")),
    ("café?", "cafe\u0301?"),
    ("①?", "1?"),
]


@pytest.mark.parametrize(("question", "variant"), VARIANTS)
def test_variants_of_a_question_are_one_question(question: str, variant: str) -> None:
    assert question != variant
    assert question_hash(question) == question_hash(variant)


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("a?", "a"), ("é", "e"), ("가", "나"), ("#1", "#2")])
def test_questions_that_differ_are_two(one: str, other: str) -> None:
    assert question_hash(one) != question_hash(other)


def test_duplicates_stay_on_one_side() -> None:
    variants = [f"{spelling} {n}" for n in range(60) for pair in VARIANTS for spelling in pair]
    split = split_of(variants, "data.eval_fraction=0.5")
    assert split.train and split.eval
    assert not leaks(split)
    assert len(split.train) + len(split.eval) == len(variants)


def test_a_leak_that_is_planted_is_seen() -> None:
    split = split_of(QUESTIONS)
    planted = replace(split, train=[*split.train, *examples_of([split.eval[0].question.upper()])])
    assert not leaks(split)
    assert leaks(planted) == {question_hash(split.eval[0].question)}


def test_questions_of_the_eval_file_are_left_out_and_counted() -> None:
    held_out = ["QUESTION  number 3?", "Question number 7?", "Something else?"]
    split = split_of([*QUESTIONS[:20], "question number 7?"], held_out=held_out)
    assert questions_of(split.eval) == held_out
    assert questions_of(split.train) == [QUESTIONS[n] for n in range(20) if n not in {3, 7}]
    assert split.left_out == 3
    assert not leaks(split)
    assert split.tally.summary()["left_out"] == 3


def test_with_an_eval_file_the_share_means_nothing() -> None:
    split = split_of(QUESTIONS, "data.eval_fraction=0.9", held_out=["Something else?"])
    assert (len(split.train), len(split.eval), split.left_out) == (400, 1, 0)


def test_at_most_max_samples_rows_chosen_apart_from_the_split() -> None:
    whole, capped = split_of(QUESTIONS), split_of(QUESTIONS, "data.max_samples=50")
    assert capped.train == split_of(QUESTIONS, "data.max_samples=50").train
    assert capped.eval == whole.eval
    chosen = questions_of(capped.train)
    assert len(chosen) == 50
    assert chosen == [question for question in questions_of(whole.train) if question in chosen]  # in order
    # Not the rows next to the threshold: a larger share must not eat into them first.
    kept = questions_of(split_of(QUESTIONS, "data.eval_fraction=0.5").train)
    assert 10 <= len(set(chosen) & set(kept)) <= 45
    assert set(chosen) <= set(questions_of(split_of(QUESTIONS, "data.max_samples=80").train))
    assert split_of(QUESTIONS, "data.max_samples=1000").train == whole.train
    assert len(split_of(["same?"] * 10, "data.max_samples=4", "data.eval_fraction=0").train) == 4


def test_the_choice_of_max_samples_is_stable_when_rows_are_added() -> None:
    few = split_of(QUESTIONS[:200], "data.max_samples=50")
    many = split_of(QUESTIONS, "data.max_samples=50")
    old = [question for question in questions_of(many.train) if question in QUESTIONS[:200]]
    assert set(old) <= set(questions_of(few.train))  # a new row may push one out, but brings none back


def test_nothing_left_to_train_on() -> None:
    expected = (
        "r.yaml:3: no training rows are left after the split; add rows, lower data.eval_fraction, or correct data.eval"
    )
    assert refusal(lambda: split_of(["a?", "b?"], held_out=["A?", "B?"])) == expected
    assert refusal(lambda: split_of(["a?"], "data.eval_fraction=0.99999999")) == expected


def test_fingerprints_see_every_change() -> None:
    base = examples_of(["a?", "b?"])
    variants = [
        examples_of(["b?", "a?"]),
        examples_of(["a?"]),
        examples_of(["a?", "b? "]),
        examples_of(["a?", "b?", "b?"]),
        list(map(TASK.example, [Record(row_of("a?"), "t:1"), Record(row_of("b?", "other"), "t:2")])),
        list(map(task_of(Prompt(system="x")).example, [Record(row_of("a?"), "t:1"), Record(row_of("b?"), "t:2")])),
        [],
    ]
    prints = [examples_sha256(base), *map(examples_sha256, variants)]
    assert len(set(prints)) == len(prints)
    assert examples_sha256(base) == examples_sha256(examples_of(["a?", "b?"]))
    moved = [Example(Record({**e.record.row, "id": 1}, "elsewhere:9"), e.messages, e.completion) for e in base]
    assert examples_sha256(moved) == examples_sha256(base)  # where a row stands is no part of what is learnt


def test_the_summary_counts_and_names_what_was_split() -> None:
    split = split_of(QUESTIONS)
    assert split.tally.summary() == {
        "train_rows": len(split.train),
        "eval_rows": len(split.eval),
        "left_out": 0,
        "train_sha256": examples_sha256(split.train),
        "eval_sha256": examples_sha256(split.eval),
    }


# The files of a recipe


def test_the_data_of_a_recipe_is_checked_offline() -> None:
    written("t.jsonl", QUESTIONS[:20])
    written("e.jsonl", ["question number 4?", "new?"])
    split = collected(stream_split(recipe_of("data.eval=e.jsonl")))
    assert (len(split.train), len(split.eval), split.left_out) == (19, 2, 1)
    assert split.train[0].record.source == "t.jsonl:1"


def test_data_on_the_hub_are_known_as_such() -> None:
    assert is_on_hub(recipe_of("data.train=user/name"))
    written("t.jsonl", QUESTIONS)
    assert is_on_hub(recipe_of("data.eval=user/name"))
    assert not is_on_hub(recipe_of())


def test_only_the_chosen_rows_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    live = 0
    most = 0

    class Counted(Example):
        def __init__(self, *_: Any) -> None:
            nonlocal live, most
            live += 1
            most = max(most, live)

        def __del__(self) -> None:
            nonlocal live
            live -= 1

    stream = (Counted(*examples_of([question])[0]) for question in QUESTIONS)
    count = sum(1 for _ in assign_sides(stream, None, recipe_of("data.max_samples=20", "data.eval_fraction=0")))
    assert count == 20 and most <= 23


def test_a_data_file_that_is_missing_names_the_line_of_the_recipe(tmp_path: Path) -> None:
    remedy = "give another with data.%s=FILE, or a Hub dataset as user/name"
    assert refusal(lambda: collected(stream_split(recipe_of()))) == (
        f"r.yaml:3: data.train: there is no file t.jsonl (looked at {tmp_path}/t.jsonl); {remedy % 'train'}"
    )
    written("t.jsonl", QUESTIONS)
    assert refusal(lambda: collected(stream_split(recipe_of("data.eval=./e")))) == (
        f"command line: data.eval: there is no file ./e (looked at {tmp_path}/e); {remedy % 'eval'}"
    )
    assert "there is no file" in refusal(lambda: list(file_records(recipe_of(f"data.train={'x' * 300}"), "train")))


def test_a_template_that_is_broken_is_named_with_its_place() -> None:
    assert refusal(lambda: make_task(recipe_of("prompt.user={{ x"))).startswith(
        "command line: prompt.user: not valid Jinja: unexpected end of template"
    )
    with Path("r.yaml").open("a", encoding="utf-8") as file:
        file.write("prompt:\n  system: |\n    Split.\n    {% if %}\n")
    assert refusal(lambda: make_task(recipe_of())).startswith(
        "r.yaml:5: prompt.system: not valid Jinja in line 2 of the template: "
    )


def test_an_empty_held_out_set_is_reported_with_its_reason() -> None:
    recipe = recipe_of("data.eval_fraction=0.05")
    assert nothing_held_out(recipe, 100, 5) is None
    assert nothing_held_out(recipe, 8, 0) == (
        "evaluation: no row is held out (8 rows, data.eval_fraction 0.05), so there is nothing to evaluate; add rows, "
        "raise data.eval_fraction, or set data.eval=FILE"
    )
    assert "(8 rows, e.jsonl has none)" in str(nothing_held_out(recipe_of("data.eval=e.jsonl"), 8, 0))


MIX = "data.train=[{path: en.jsonl, weight: 3}, {path: ko.jsonl, weight: 1}]"


def mixed(*overrides: str) -> Split:
    return collected(stream_split(recipe_of(MIX, *overrides)))


def test_several_files_are_mixed_in_exact_shares() -> None:
    written("en.jsonl", [f"en {number}?" for number in range(300)])
    written("ko.jsonl", [f"ko {number}?" for number in range(300)])
    split = mixed("data.eval_fraction=0.2")
    counts = Counter(question.split()[0] for question in questions_of(split.train))
    # Every Korean row once, and three times as many English ones.
    ko = len({question for question in questions_of(split.train) if question.startswith("ko")})
    assert counts["ko"] == ko and abs(counts["en"] - 3 * ko) <= 1
    held_out = set(questions_of(split.eval))
    assert not held_out & set(questions_of(split.train)) and len(held_out) == len(split.eval)
    assert len({*held_out, *questions_of(split.train)}) == 600, "no row is lost"
    facts = split.tally.summary()
    assert facts["train_sources"] == {"en.jsonl": counts["en"], "ko.jsonl": counts["ko"]}
    assert facts["train_rows"] == len(split.train) == sum(counts.values())
    again = mixed("data.eval_fraction=0.2").tally.summary()
    assert again == facts, "the mix is the same each time"


def test_a_question_of_two_files_is_on_one_side() -> None:
    shared = [f"shared {number}?" for number in range(100)]
    written("en.jsonl", [*shared, *(f"en {number}?" for number in range(100))])
    written("ko.jsonl", [*(f"ko {number}?" for number in range(100)), *(text.upper() for text in shared)])
    split = mixed("data.eval_fraction=0.3")
    train, held_out = ({text.lower() for text in questions_of(side)} for side in (split.train, split.eval))
    assert not train & held_out and any("shared" in text for text in held_out)
    written("eval.jsonl", shared[:50])
    given = mixed("data.eval=eval.jsonl")
    assert not {text.lower() for text in questions_of(given.train)} & set(shared[:50]) and given.left_out == 100


def test_rows_of_several_files_have_a_source() -> None:
    written("en.jsonl", ["en?"])
    Path("ko.jsonl").write_text(json.dumps({**row_of("ko?"), "source": "own"}) + "\n", encoding="utf-8")
    sources = {example.record.row["source"] for example in mixed("data.eval_fraction=0").train}
    assert sources == {"en", "own"}
    written("t.jsonl", ["en?"])
    assert "source" not in next(iter(collected(stream_split(recipe_of())).train)).record.row


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{path: en.jsonl}, {path: ./en.jsonl}]", "data.train names en.jsonl twice; give it once, with the sum of"),
        ("[{path: en.jsonl, weight: 0}]", "data.train must be text or a list of mappings with the keys path, weight"),
        ("[{path: en.jsonl, wieght: 2}]", "data.train must be text or a list of mappings with the keys path, weight"),
        ("[{weight: 2}]", "data.train must be text or a list of mappings with the keys path, weight"),
        ("[]", "data.train must be text or a list of mappings with the keys path, weight"),
        ("[{path: en.jsonl}, {path: gone.jsonl}]", "data.train: there is no file gone.jsonl"),
    ],
)
def test_a_mix_that_cannot_be_is_one_line(value: str, message: str) -> None:
    written("en.jsonl", ["en?"])
    with pytest.raises(UserError) as caught:
        collected(stream_split(recipe_of(f"data.train={value}")))
    assert message in str(caught.value) and "\n" not in str(caught.value)
