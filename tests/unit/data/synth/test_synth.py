"""The synthetic corpus as a whole: its rows, order, size, balance and cost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from qdsft.data.record import Record
from qdsft.data.synth import generate
from qdsft.data.synth.world import load_world
from qdsft.data.text import question_hash
from qdsft.data.validation import validate
from qdsft.errors import UserError

LANGUAGES = ("en", "ko")
OPERATIONS = {
    *("chain", "filter", "intersection", "union", "superlative", "count"),
    *("comparison", "difference", "boolean", "group"),
}
DIGEST = (
    "import hashlib, json; from qdsft.data.synth import generate\n"
    "for language in ('en', 'ko'):\n"
    "    text = json.dumps(list(generate(language, 300, 11)), ensure_ascii=False)\n"
    "    print(hashlib.sha256(text.encode()).hexdigest())"
)


def rows_of(language: str, rows: int, seed: int = 0) -> list[dict[str, Any]]:
    return list(generate(language, rows, seed))


@pytest.mark.parametrize("language", LANGUAGES)
def test_rows_are_valid_and_complete(language: str) -> None:
    for row in rows_of(language, 500):
        assert list(row) == ["question", "sub_questions", "operations", "language", "answer"]
        validate(Record(row, "row"))
        assert row["language"] == language
        assert row["operations"] and set(row["operations"]) <= OPERATIONS
        assert 2 <= len(row["sub_questions"]) <= 6
        assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("language", LANGUAGES)
def test_steps_follow_from_the_question(language: str) -> None:
    world = load_world()
    titles = {name for name, kind in world.kinds.items() if kind in ("film", "book")}
    korean = [f"'{korean}'" if name in titles else korean for name, korean in world.korean.items()]
    names = korean if language == "ko" else list(world.kinds)
    for row in rows_of(language, 500, seed=5):
        steps = " ".join(row["sub_questions"])
        assert {name for name in names if name in steps} == {name for name in names if name in row["question"]}
        assert {n for n in steps.split() if n.isdigit()} <= set(row["question"].replace("?", "").split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_wording_of_a_step_is_a_function_of_the_question(language: str) -> None:
    """Two questions of one program have the same steps, so the steps of equal questions can never differ."""
    seen: dict[str, tuple[str, ...]] = {}
    for row in rows_of(language, 2000):
        key = question_hash(row["question"])
        assert key not in seen
        seen[key] = tuple(row["sub_questions"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_rows_do_not_depend_on_how_many(language: str) -> None:
    assert rows_of(language, 37, seed=8) == rows_of(language, 200, seed=8)[:37]
    assert rows_of(language, 1, seed=8) == list(islice(generate(language, 5000, 8), 1))


def test_seed_and_language_change_everything() -> None:
    first, second = ({row["question"] for row in rows_of("en", 200, seed)} for seed in (0, 1))
    assert len(first & second) < 20
    assert rows_of("en", 50, -3) == rows_of("en", 50, -3)
    answers = [[row["operations"] for row in rows_of(language, 50)] for language in LANGUAGES]
    assert answers[0] != answers[1]


@pytest.mark.slow
def test_rows_are_the_same_in_every_process() -> None:
    found = set()
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        found.add(done.stdout)
    here = [
        hashlib.sha256(json.dumps(rows_of(one, 300, 11), ensure_ascii=False).encode()).hexdigest() for one in LANGUAGES
    ]
    assert found == {"\n".join(here) + "\n"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_operations_are_balanced_from_the_start(language: str) -> None:
    for count in (200, 2000):
        counts = Counter(name for row in rows_of(language, count) for name in row["operations"])
        assert set(counts) == OPERATIONS
        assert min(counts.values()) >= count // 15, counts


@pytest.mark.parametrize("language", LANGUAGES)
def test_depths_vary(language: str) -> None:
    depths = Counter(len(row["sub_questions"]) for row in rows_of(language, 1000))
    assert all(depths[depth] > 100 for depth in (2, 3, 4, 5)), depths
    assert depths[6] < 50


def test_there_are_more_than_a_million_questions() -> None:
    for language in LANGUAGES:
        with pytest.raises(UserError, match=r"there are only \d{7} distinct questions") as refused:
            generate(language, 10**9, 0)
        available = int(str(refused.value).split("only ")[1].split()[0])
        assert available > 1_000_000
        next(generate(language, available, 0))


def resident_kib(parts: tuple[int, int], keep: str) -> list[int]:
    """Return the resident memory of a separate process after each part of 100,000 rows; `keep` handles a row."""
    code = (
        "from itertools import islice; from qdsft.data.synth import generate\n"
        "rows, kept = generate('ko', 100_000, 0), []\n"
        f"for part in {parts}:\n"
        "    for row in islice(rows, part):\n"
        f"        {keep}\n"
        "    print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=250)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="resident memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_rows() -> None:
    early, late = resident_kib((30_000, 70_000), "pass")  # by the first mark every cache is full
    assert late - early < 6_000
    early, late = resident_kib((2_000, 8_000), "kept.append(str(row))")  # the measure sees what is kept
    assert late - early > 10_000


@pytest.mark.parametrize(
    ("language", "rows", "message"),
    [
        ("fr", 5, "there is no language 'fr'; choose one of: en, ko"),
        ("en", 0, "rows is 0; ask for at least 1"),
        ("ko", -4, "rows is -4; ask for at least 1"),
    ],
)
def test_bad_arguments_are_refused_at_once(language: str, rows: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(language, rows, 0)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("steps", [(1, 1), (1, 3), (4, 4)])
def test_held_out_entities_are_in_no_seen_question_and_in_each_unseen_one(
    language: str, steps: tuple[int, int]
) -> None:
    world = load_world()
    names = [name if language == "en" else world.korean[name] for name in world.held_out()]
    assert len(names) == 18 and {world.kinds[name] for name in world.held_out()} == set(world.kinds.values())
    for entities in ("seen", "unseen"):
        for row in generate(language, 100, 3, steps[1], steps[0], entities):
            assert any(name in row["question"] for name in names) is (entities == "unseen"), row["question"]
            assert entities == "unseen" or not any(name in " ".join(row["sub_questions"]) for name in names)
    with pytest.raises(UserError, match="entities is 'some'; choose one of: all, seen, unseen"):
        generate(language, 1, 3, entities="some")  # type: ignore[arg-type]
