"""The folder that a server is given of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.certificates import make_certificate
from helpers.tiny_run import make_run
from transformers import AutoTokenizer

from qdsft.deploy.served_folder import served_name, stage
from qdsft.inference.loaded_run import load_prompts
from qdsft.runs.certificate import write_certificate
from qdsft.tokenization.chat_template import encode_prompts

TinyModel = Callable[[str], Path]


def test_staged_files_yield_the_trained_prompts(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("mistral")))
    stage(run, tmp_path / "staged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "staged")
    golden = run.manifest.golden_prompts
    assert encode_prompts(tokenizer, [prompt.messages for prompt in golden]) == [prompt.ids for prompt in golden]
    settings = json.loads((tmp_path / "staged" / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == run.manifest.stop_token_ids
    assert settings["do_sample"] is False and settings["max_new_tokens"] == 24
    assert (tmp_path / "staged" / "model.safetensors").samefile(tmp_path / "run" / "model" / "model.safetensors")


def test_a_merge_that_does_not_agree_is_reported(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    write_certificate(run_dir / "model", make_certificate(passed=False))
    stage(load_prompts(run_dir), tmp_path / "staged")
    assert "does not agree with the adapter as it was trained" in capsys.readouterr().err


def test_names_that_stand_for_themselves_in_a_url(tmp_path: Path) -> None:
    assert served_name(tmp_path / "a b@c:d.gguf") == "a-b-c-d.gguf"
