"""Samples are the same after an interruption, and belong to their run and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.split_run import make_split_run

from qdsft.errors import UserError
from qdsft.inference.loaded_run import RunPrompts, load_prompts
from qdsft.inference.sample import Asked, Samples, SampleSettings, draw_samples

SETTINGS = SampleSettings(samples=2, temperature=1.5, batch_size=4)
QUESTIONS = [f"Who is {'very ' * (number % 3)}old, number {number}?" for number in range(6)]


@pytest.fixture(scope="module")
def run(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> RunPrompts:
    rows = [{"question": question, "sub_questions": ["Who?"]} for question in QUESTIONS]
    folder = tmp_path_factory.mktemp("sample")
    return load_prompts(make_split_run(folder, tiny_model("llama"), rows[1:], rows[:1]))


@pytest.fixture(scope="module")
def asked(run: RunPrompts) -> dict[int, Asked]:
    prompts = run.encode([[{"role": "user", "content": question}] for question in QUESTIONS])
    pairs = zip(QUESTIONS, prompts, strict=True)
    return {number: Asked((question,), question, tuple(ids)) for number, (question, ids) in enumerate(pairs)}


@pytest.fixture(scope="module")
def whole(run: RunPrompts, asked: dict[int, Asked], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of all samples."""
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"
    found = draw(run, asked, path)
    assert all(len(one.texts) == 2 for one in found.values()) and found[0].texts[0] != found[0].texts[1]
    return path


def draw(
    run: RunPrompts, asked: dict[int, Asked], log: Path, settings: SampleSettings = SETTINGS
) -> dict[int, Samples]:
    return draw_samples(run, asked, settings, log, max_new_tokens=12)


@pytest.mark.parametrize("lines", [0, 1, 3, 4, 6])
def test_an_interrupted_sampling_ends_with_the_same_samples(
    lines: int, run: RunPrompts, asked: dict[int, Asked], whole: Path, tmp_path: Path
) -> None:
    kept = whole.read_bytes().splitlines(keepends=True)
    log = tmp_path / "samples.jsonl"
    log.write_bytes(b"".join(kept[:lines]) + kept[lines][:20])  # killed within a line
    draw(run, asked, log)
    assert sorted(log.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())


def test_finished_questions_need_no_model(
    run: RunPrompts, asked: dict[int, Asked], whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(run, run_dir=Path("missing"))
    assert draw(missing, asked, whole)[5] == draw(missing, {5: asked[5]}, whole)[5]
    assert "6 of 6 questions were sampled before" in capsys.readouterr().err


def test_the_samples_of_a_question_do_not_depend_on_the_others(
    run: RunPrompts, asked: dict[int, Asked], whole: Path, tmp_path: Path
) -> None:
    alone = draw(run, {3: asked[3]}, tmp_path / "alone.jsonl", replace(SETTINGS, batch_size=1))
    assert alone[3] == draw(run, asked, whole)[3]


@pytest.mark.parametrize("other", [{"temperature": 1.0}, {"samples": 3}, {"seed": 1}, {"top_p": 0.5}])
def test_samples_of_other_settings_are_neither_used_nor_lost(
    other: dict[str, float], run: RunPrompts, asked: dict[int, Asked], whole: Path
) -> None:
    before = whole.read_bytes()
    settings = replace(SETTINGS, **other)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"different values of {next(iter(other))}; choose another --output"):
        draw(run, asked, whole, settings)
    assert whole.read_bytes() == before


def test_a_sample_that_leaves_no_room_counts_as_cut_off(
    run: RunPrompts, asked: dict[int, Asked], tmp_path: Path
) -> None:
    ends = list(range(run.vocabulary))  # any token ends an answer
    short = replace(run, manifest=run.manifest.model_copy(update={"stop_token_ids": ends}))
    assert draw(short, {0: asked[0]}, tmp_path / "fits.jsonl")[0].stopped == [True, True]
    training = {**run.recipe.training, "max_length": len(asked[0].prompt)}
    full = replace(short, recipe=run.recipe.model_copy(update={"training": training}))
    assert draw(full, {0: asked[0]}, tmp_path / "full.jsonl")[0].stopped == [False, False]
