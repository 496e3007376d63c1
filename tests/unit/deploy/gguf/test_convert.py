"""The files that llama.cpp's converter reads, and what a failed conversion leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from helpers.tiny_run import make_run

from qdsft.deploy.gguf.convert import stage_for_conversion
from qdsft.inference.loaded_run import load_prompts

TinyModel = Callable[[str], Path]


def test_files_that_the_converter_reads(tiny_model: TinyModel, tmp_path: Path) -> None:
    import json

    base = tmp_path / "base"
    shutil.copytree(tiny_model("mistral"), base)
    (base / "tokenizer.model").write_bytes(b"pieces")
    stage_for_conversion(load_prompts(make_run(tmp_path / "run", base, "mistral/full")), tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["add_prefix_space"] is False
    assert (tmp_path / "m" / "tokenizer.model").read_bytes() == b"pieces"
    stage_for_conversion(load_prompts(make_run(tmp_path / "neox", tiny_model("gpt_neox"))), tmp_path / "n")
    config = json.loads((tmp_path / "n" / "config.json").read_text(encoding="utf-8"))
    assert config["rotary_pct"] == config["rope_parameters"]["partial_rotary_factor"]
