"""Decoding is plain greedy, whatever generation_config.json the base model came with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_run import GOLDEN, make_run

from qdsft.inference.decomposer import Decomposer
from qdsft.inference.generate import Batch
from qdsft.inference.generation_config import generation_config, greedy_config
from qdsft.inference.loaded_run import load_run
from qdsft.runs.manifest import read_manifest, write_manifest

SETTINGS: dict[str, Any] = {
    "no_repeat_ngram_size": 2,
    "suppress_tokens": list(range(300, 1500)),
    "begin_suppress_tokens": list(range(3, 1000)),
    "min_new_tokens": 20,
    "cache_implementation": "static",
    "guidance_scale": 3.0,
    "repetition_penalty": 1.8,
    "encoder_repetition_penalty": 2.0,
    "num_beams": 3,
    "forced_eos_token_id": 5,
    "exponential_decay_length_penalty": [1, 4.0],
    "sequence_bias": [[[300], 50.0]],
    "prompt_lookup_num_tokens": 3,
}


def plant(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")


@pytest.fixture(scope="module", params=["adapter", "model"])
def runs(
    request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """(a clean run, its copy for settings, the folder whose generation config the copy is decoded with)"""
    folder = tmp_path_factory.mktemp("runs")
    base = shutil.copytree(tiny_model("mistral"), folder / "base")
    overrides, scale = (["lora.r=4"], 0.1) if request.param == "adapter" else ([], 0.0)
    clean = make_run(folder / "clean", tiny_model("mistral"), "tiny/full", *overrides, lora_scale=scale)
    planted = make_run(folder / "planted", base, "tiny/full", *overrides, lora_scale=scale)
    end_at_different_steps(clean, planted)
    return clean, planted, base if request.param == "adapter" else planted / "model"


def end_at_different_steps(*run_dirs: Path) -> None:
    """Add to the stop tokens of equal runs one that ends a golden prompt's answer early and leaves the other alone."""
    run = load_run(run_dirs[0])
    prompts = [golden.ids for golden in run.manifest.golden_prompts]
    first, second = (new.ids for new in Batch(run.model, prompts, greedy_config(run.tokenizer, [], 24)).run())
    stop = next(token for token in first[3:] if token not in first[:3] and token not in second)
    for run_dir in run_dirs:
        manifest = read_manifest(run_dir)
        manifest.stop_token_ids = [*manifest.stop_token_ids, stop]
        write_manifest(run_dir, manifest)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_base_model_change_no_answer(setting: str, runs: tuple[Path, Path, Path]) -> None:
    clean, planted, folder = runs
    before = (folder / "generation_config.json").read_text(encoding="utf-8")
    expected = [Decomposer(clean).text(question) for question in GOLDEN]
    plant(folder, {setting: SETTINGS[setting]})
    try:
        run = load_run(planted)
        assert getattr(run.model.generation_config, setting) == SETTINGS[setting], "the setting was not loaded"
        found = run.answer([golden.messages for golden in run.manifest.golden_prompts], batch_size=2)
        assert [answer.text for answer in found] == expected
        assert getattr(run.model.generation_config, setting) == SETTINGS[setting], "the model keeps its own config"
    finally:
        (folder / "generation_config.json").write_text(before, encoding="utf-8")


def test_the_settings_matter_to_generate_itself(runs: tuple[Path, Path, Path]) -> None:
    _, planted, folder = runs
    before = (folder / "generation_config.json").read_text(encoding="utf-8")
    expected = Decomposer(planted).text(GOLDEN[0])
    plant(folder, {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2})
    try:
        run = load_run(planted)
        prompt = run.encode([run.manifest.golden_prompts[0].messages])
        inputs = run.tokenizer.pad({"input_ids": prompt}, return_tensors="pt")
        ids = run.model.generate(**inputs, do_sample=False, max_new_tokens=24)[0, len(prompt[0]) :]
        assert run.tokenizer.decode(ids, skip_special_tokens=True).strip() != expected
    finally:
        (folder / "generation_config.json").write_text(before, encoding="utf-8")


def test_other_programs_get_nothing_but_the_plain_config(runs: tuple[Path, Path, Path]) -> None:
    clean = load_run(runs[0])
    assert generation_config(clean.manifest, clean.tokenizer) == {
        "bos_token_id": clean.tokenizer.bos_token_id,
        "do_sample": False,
        "eos_token_id": clean.manifest.stop_token_ids,
        "max_new_tokens": 24,
        "pad_token_id": clean.tokenizer.pad_token_id,
    }


def test_the_head_multiplies_no_slices(runs: tuple[Path, Path, Path]) -> None:
    run = load_run(runs[0])
    prompts = [golden.ids for golden in run.manifest.golden_prompts]
    seen: list[bool] = []
    head = run.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].is_contiguous()))
    Batch(run.model, prompts, greedy_config(run.tokenizer, run.manifest.stop_token_ids, 2)).run()
    hook.remove()
    assert seen and all(seen)
    assert not head._forward_pre_hooks, "the model is as before"
