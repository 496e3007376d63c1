"""Results read back from a run directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.manifests import RECIPE, manifest_of

from qdsft.recipe import load_recipe
from qdsft.runs.results import brief_metrics, method, read_example, read_metrics, tuned_numbers


def test_metrics_of_the_three_models_are_read(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == {} and tuned_numbers(tmp_path) == {}
    content = {"tuned": {"sari": 0.5, "note": "x", "valid": True}, "versions": {}, "baseline": {"sari": 0.1}}
    (tmp_path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_metrics(tmp_path) == {"tuned": content["tuned"], "baseline": content["baseline"]}
    assert tuned_numbers(tmp_path) == {"sari": 0.5}


@pytest.mark.parametrize("damage", ["{", "[1]", '{"tuned": 3}', '{"tuned": null}'])
def test_damaged_metrics_are_no_numbers(tmp_path: Path, damage: str) -> None:
    (tmp_path / "metrics.json").write_text(damage, encoding="utf-8")
    assert tuned_numbers(tmp_path) == {}


def test_a_card_needs_few_of_them(tmp_path: Path) -> None:
    groups = {"language": {"ko": {"samples": 2, "sari": 0.4}}, "steps": {"2": {}}}
    content = {"tuned": {"sari": 0.5, "private": "x", "groups": groups}}
    (tmp_path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    assert brief_metrics(tmp_path) == {"tuned": {"sari": 0.5, "groups": {"language": {"ko": {"samples": 2}}}}}


def test_an_example_is_answered_right(tmp_path: Path) -> None:
    assert read_example(tmp_path) is None
    rows = [
        {"question": "wrong", "sub_questions": ["?"], "scores": {"exact_match": 0.0}},
        {"question": "right", "sub_questions": ["a", "b"], "scores": {"exact_match": 1.0}},
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_example(tmp_path) == {"question": "right", "sub_questions": ["a", "b"]}
    path.write_text(json.dumps(rows[0]), encoding="utf-8")
    assert read_example(tmp_path) is None


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "full fine-tuning"),
        (["lora={}"], "LoRA, rank 8"),
        (["lora.r=4", "quantization.load_in_4bit=true"], "QLoRA, rank 4"),
    ],
)
def test_the_method_in_words(tmp_path: Path, overrides: list[str], words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    assert method(manifest_of(load_recipe(path, overrides))) == words
