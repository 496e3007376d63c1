"""What `make quickstart` does, to the end: a model that learned decomposes questions that it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest
from helpers.paths import ROOT

from qdsft.inference.evaluate import evaluate
from qdsft.recipe import load_recipe
from qdsft.training.train import train


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
def test_the_tiny_recipe_learns_to_decompose(
    load_script: Callable[[str], ModuleType], synthetic_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A wrong mask, template, stop token or reference would show here, whatever the other tests say.
    monkeypatch.chdir(ROOT)
    model = tmp_path / "tiny-llama"
    build = load_script("make_tiny_model").build
    build("llama", model, hidden_size=128, layers=3, tie_embeddings=True, corpus=synthetic_corpus)
    overrides = [f"model.name_or_path={model}", f"training.output_dir={tmp_path / 'run'}", "training.report_to=none"]
    run_dir = train(load_recipe("recipes/tiny/full.yaml", overrides))
    tuned = evaluate(run_dir)["tuned"].means
    assert tuned["exact_match"] >= 0.8
    assert tuned["stopped"] == 1.0 and tuned["valid"] >= 0.98
    rows = [json.loads(line) for line in (run_dir / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    korean = [any("가" <= character <= "힣" for character in row["question"]) for row in rows]
    for language in (True, False):
        scores = [row["scores"]["exact_match"] for row, is_one in zip(rows, korean, strict=True) if is_one == language]
        assert len(scores) >= 50 and fmean(scores) >= 0.7
