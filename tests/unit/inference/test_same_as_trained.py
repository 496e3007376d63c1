"""No field of run.json that is empty, wrong or of another model switches off the check it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import make_run

from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts

TINY = Callable[[str], Path]

FIELDS = [
    ("golden_prompts", []),
    ("golden_prompts", None),
    ("golden_prompts", [{"messages": [], "ids": [1]}]),
    ("golden_prompts", [{"messages": [{"role": "user", "content": "q"}], "ids": []}]),
    ("golden_prompts", [{"messages": [{"role": "user", "content": "q"}], "ids": ["1"]}]),
    ("golden_prompts", [{"messages": [{"role": "user", "content": "q"}], "ids": [-1]}]),
    ("stop_token_ids", []),
    ("stop_token_ids", [True]),
    ("stop_token_ids", [2.0]),
    ("stop_token_ids", [-100]),
    ("stop_token_ids", 2),
    ("template_sha256", ""),
    ("template_sha256", "x"),
    ("template_sha256", None),
]


@pytest.mark.parametrize(("key", "value"), FIELDS)
def test_an_empty_or_wrong_field_does_not_switch_a_check_off(
    tiny_model: TINY, tmp_path: Path, key: str, value: object
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    edit_manifest(run_dir, key, value)
    with pytest.raises(UserError, match=r"run\.json: damaged, or written by another version"):
        load_prompts(run_dir)


@pytest.mark.parametrize("key", ["golden_prompts", "stop_token_ids"])
def test_token_ids_beyond_the_vocabulary_are_refused(tiny_model: TINY, tmp_path: Path, key: str) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    good = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))[key]
    bad = [*good[:1], {**good[0], "ids": [10**9]}] if key == "golden_prompts" else [*good, 10**9]
    edit_manifest(run_dir, key, bad)
    with pytest.raises(UserError, match=rf"run\.json: {key}: 1000000000 is not a token of the model"):
        load_prompts(run_dir)


def edit_manifest(run_dir: Path, key: str, value: object) -> None:
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    manifest.pop(key)
    if value is not None:
        manifest[key] = value
    (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_another_template_is_refused(tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    (run_dir / "model" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    with pytest.raises(UserError, match="not the template that this run was trained with"):
        load_prompts(run_dir)


def test_other_token_ids_are_refused(tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    golden = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["golden_prompts"]
    edit_manifest(run_dir, "golden_prompts", [{**golden[0], "ids": [*golden[0]["ids"], 1]}])
    with pytest.raises(UserError, match="the tokenizer no longer yields the token ids"):
        load_prompts(run_dir)


def test_another_base_model_is_refused(tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), lora_scale=0.1)
    facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["base_model"]
    for digest in ("0" * 64, None):
        edit_manifest(run_dir, "base_model", {**facts, "config_sha256": digest})
        with pytest.raises(UserError, match="is not the one that the adapter was trained on"):
            load_prompts(run_dir)
