"""The model card of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of
from helpers.tiny_run import make_run

from qdsft.recipe import load_recipe
from qdsft.runs.card import metric_table, render_card, write_card
from qdsft.runs.certificate import Certificate
from qdsft.runs.manifest import Manifest, read_manifest
from qdsft.runs.results import parse_results

METRICS: dict[str, Any] = {
    "tuned": {"exact_match": 0.5, "samples": 3},
    "baseline": {"exact_match": 0.25, "samples": 3, "loss": 1.0},
}
CERTIFICATE = Certificate.model_validate(
    {
        "method": "LoRA, rank 8, merged",
        "results_of_adapter": METRICS,
        "base_model": {},
        "thresholds": {"mean_kl": 0.1, "identical_answers": 0.9, "score_drop": 0.01},
        "questions": "golden prompts",
        "run": "",
        "versions": {},
        "example": None,
        "base": "original",
        "dtype": "bfloat16",
        "passed": False,
        "failed": ["KL is 2"],
        "candidates": {
            "original": {
                "logits": {"positions": 9, "mean_kl": 2.0, "largest_difference": 0.5, "same_greedy_token": 0.5},
                "answers": {"identical": 0.5, "compared": 4},
                "scores": {},
            }
        },
    }
)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")
    folder = Path("my-run")
    (folder / "adapter").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    return folder


def manifest(**changes: Any) -> Manifest:
    return manifest_of(load_recipe("r.yaml", ["lora={}"]), **changes)


def test_a_card_is_written_in_both_places(run_dir: Path) -> None:
    found = manifest(results={"steps": 7, "first_loss": 2.0, "last_loss": 0.123456}, device={"name": "CPU"})
    write_card(run_dir, found)
    text = (run_dir / "README.md").read_text(encoding="utf-8")
    assert (run_dir / "adapter" / "README.md").read_text(encoding="utf-8") == text
    for line in (
        "# my-run",
        "| method | LoRA, rank 8 |",
        "| optimizer steps | 7 |",
        "| first and last logged loss | 2.0000, 0.1235 |",
        "| device | CPU |",
        "| metric | tuned | baseline |",
        "| exact match | 0.500 | 0.250 |",
        f"limit = {found.recipe['evaluation']['max_new_tokens']}",
    ):
        assert f"\n{line}\n" in text, line
    assert 'PeftModel.from_pretrained(base, "my-run/adapter")' in text and "hf download" not in text
    assert 'AutoTokenizer.from_pretrained("my-run/adapter")' in text and "\nqdsft decompose my-run " in text
    assert "The paths are relative to the folder that holds `my-run`." in text


@pytest.mark.parametrize("downloaded", [False, True])
def test_the_code_of_a_local_card_runs(
    tmp_path: Path, tiny_model: Callable[[str], Path], downloaded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "tiny-full", tiny_model("llama"))
    if downloaded:  # as a repository of the Hub, with the weights beside run.json
        for path in (run_dir / "model").iterdir():
            path.rename(run_dir / path.name)
        (run_dir / "model").rmdir()
    text = render_card(run_dir, read_manifest(run_dir))
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert f'AutoModelForCausalLM.from_pretrained("tiny-full{"" if downloaded else "/model"}")' in code
    exec(code, {})  # the working directory holds tiny-full
    assert capsys.readouterr().out


def test_unknown_facts_are_left_out(run_dir: Path) -> None:
    text = render_card(run_dir, manifest())
    assert "optimizer steps" not in text and "first and last" not in text and "| None |" not in text


def test_a_name_on_the_hub_is_downloaded_first(run_dir: Path) -> None:
    text = render_card(run_dir, manifest(artifact="model"), name="user/name")
    assert "hf download user/name --local-dir name\nqdsft decompose name " in text and "PeftModel" not in text
    assert 'AutoModelForCausalLM.from_pretrained("user/name")' in text and "The paths are relative" not in text


def test_a_merged_model_shows_its_certificate(run_dir: Path) -> None:
    text = render_card(run_dir, manifest(), merge=CERTIFICATE)
    assert "**not passed**: KL is 2" in text and "| original | 2 | 0.5 | 50% of 4 |" in text
    assert "Held-out results of the adapter, before the merge" in text and "PeftModel" not in text


def test_the_table_has_a_dash_for_a_metric_that_a_model_lacks() -> None:
    table = dict(metric_table(parse_results(METRICS, "metrics.json")))
    assert table["exact match"] == ["0.500", "0.250"] and ["-", "1.000"] in table.values()


HOSTILE = "a? ```\n# Owned\n<script>alert(1)</script> \x1b]0;x\x07"


def test_a_question_stays_in_its_block(run_dir: Path) -> None:
    row = {"question": HOSTILE, "gold": ["b?"], "sub_questions": ["````b?"], "scores": {"exact_match": 1.0}}
    (run_dir / "predictions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    lines = render_card(run_dir, manifest()).splitlines()
    fences = [number for number, line in enumerate(lines) if line == "`````"]
    assert len(fences) == 2 and fences[0] < lines.index("# Owned") < fences[1]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
    "text", ["a | b", "[x](https://example.org)", "`code`", "<img src=x>", "**bold**", "_it_", "!x"]
)
def test_a_name_is_text_in_the_table(run_dir: Path, text: str) -> None:
    changed = manifest(device={"kind": "cpu", "name": f"{text}\n## Owned"}, versions={"torch": text})
    card = render_card(run_dir, changed)
    [row] = [line for line in card.splitlines() if line.startswith("| device |")]
    for mark in "|`*[]!":
        assert row.removeprefix("| device |").removesuffix("|").replace(f"\\{mark}", "").count(mark) == 0
    assert "<" not in row and "## Owned" in row and "\n## Owned" not in card


def test_a_name_cannot_leave_the_code(run_dir: Path) -> None:
    card = render_card(run_dir, manifest(), name='user/x"); import os  # $(id)')
    assert 'from_pretrained("user/x\\"); import os  # $(id)")' in card
    assert "hf download 'user/x\"); import os  # $(id)'" in card


def test_messages_stay_in_the_code(run_dir: Path) -> None:
    golden = [{"messages": [{"role": "user", "content": HOSTILE}], "ids": [1]}]
    lines = render_card(run_dir, manifest(golden_prompts=golden)).splitlines()
    assert lines.count("````python") == 1 and lines[-1] == "````" and "# Owned" not in lines
