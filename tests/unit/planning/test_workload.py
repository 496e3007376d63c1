"""Compare steps and tokens estimated from a file with the real preparation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT

from qdsft.planning import workload
from qdsft.planning.workload import READ_AT_MOST, Workload, estimate_workload
from qdsft.recipe import Recipe, load_recipe

ROW = {"question": "Who was born first, Ada or Alan?", "sub_questions": ["When was Ada born?", "When was Alan born?"]}


def recipe_of(tmp_path: Path, rows: int, *overrides: str) -> Recipe:
    data = tmp_path / "rows.jsonl"
    lines = [json.dumps({**ROW, "question": f"{ROW['question']} {number}"}) for number in range(rows)]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_recipe(ROOT / "recipes/llama2/qlora_8gb.yaml", [f"data.train={data}", *overrides])


def test_all_rows_are_counted_or_the_rest_is_estimated(tmp_path: Path) -> None:
    few, note = estimate_workload(recipe_of(tmp_path, 100, "data.eval_fraction=0.0"))
    assert few is not None and (few.rows, few.read) == (100, 100)
    assert note == "estimated from 100 rows at 3.5 bytes a token"
    many, note = estimate_workload(recipe_of(tmp_path, 3 * READ_AT_MOST))
    assert many is not None and many.read == READ_AT_MOST
    assert many.rows == pytest.approx(0.9 * 3 * READ_AT_MOST, rel=0.01)
    assert many.tokens / many.rows == pytest.approx(few.tokens / few.rows, rel=0.05)
    assert note.endswith("assuming the others are like them")
    limited, _ = estimate_workload(recipe_of(tmp_path, 3 * READ_AT_MOST, "data.max_samples=2500"))
    assert limited is not None and limited.rows == 2500


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ((), 3 * 13),  # 1000 rows of 100 tokens fill 101 packed rows of 1024, 13 batches of 8
        (("training.packing=false",), 3 * 125),
        (("training.packing=false", "training.num_train_epochs=0.5"), 63),
        (("training.max_steps=7",), 7),
    ],
)
def test_steps(overrides: tuple[str, ...], steps: int, tmp_path: Path) -> None:
    found = Workload(rows=1000, tokens=100_000, longest=200, longest_prompt=150, read=1000)
    assert found.steps(recipe_of(tmp_path, 1, *overrides), 1) == steps


def test_steps_and_tokens_on_several_cards(tmp_path: Path) -> None:
    found = Workload(rows=1000, tokens=100_000, longest=200, longest_prompt=150, read=1000)
    recipe = recipe_of(tmp_path, 1)
    assert [found.steps(recipe, gpus) for gpus in (1, 2, 4, 8)] == [39, 39, 39, 39]
    assert found.tokens_seen(recipe, 4) == 300_000
    limited = recipe_of(tmp_path, 1, "training.max_steps=7")
    assert found.tokens_seen(limited, 4) == pytest.approx(7 * 8 * 1024 * 0.97, rel=0.01)


@pytest.mark.parametrize(
    ("override", "note"),
    [
        ("data.train=user/name", "the data are on the Hub and were not read"),
        ("data.train=none.jsonl", "the data cannot be read: .*there is no file none.jsonl"),
        ("data.eval_fraction=0.999999", "the data cannot be read: .*no training rows are left"),
    ],
)
def test_where_there_is_no_estimate(override: str, note: str, tmp_path: Path) -> None:
    found, why = estimate_workload(recipe_of(tmp_path, 3, override))
    assert found is None
    assert re.match(note, why)


@pytest.mark.slow
def test_against_the_real_preparation(
    tiny_model: Callable[[str], Path], synthetic_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row counts and steps are the trainer's; with the tokenizer's own bytes a token, so are the tokens, to 25 %."""
    from qdsft.model.loading import load_config, load_tokenizer, stop_token_ids
    from qdsft.tokenization.prepared import prepare

    values = [f"model.name_or_path={tiny_model('llama')}", f"data.train={ROOT / 'data/examples/sample_train.jsonl'}"]
    recipe = load_recipe(ROOT / "recipes/llama2/qlora_8gb.yaml", values)
    tokenizer = load_tokenizer(recipe)
    prepared: Any = prepare(recipe, tokenizer, stop_token_ids(recipe, tokenizer, load_config(recipe)))
    text = (ROOT / "data/examples/sample_train.jsonl").read_text(encoding="utf-8")
    monkeypatch.setattr(workload, "BYTES_PER_TOKEN", len(text.encode()) / len(tokenizer(text)["input_ids"]))
    found, _ = estimate_workload(recipe)
    assert found is not None
    assert found.rows == prepared.facts.tokens.rows
    assert found.tokens == pytest.approx(prepared.facts.tokens.tokens, rel=0.25)
