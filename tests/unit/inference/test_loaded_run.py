"""A run on its way back from disk: its prompts without weights, and the grammar of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import GOLDEN, make_run

from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts, load_run, load_weights

TINY = Callable[[str], Path]
CONVERSATIONS = [[{"role": "user", "content": question}] for question in GOLDEN]


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gemma3_text", "qwen3"])
def test_constrained_answers_are_valid_and_the_prompts_stay_the_trained_ones(
    tiny_model: TINY, tmp_path: Path, architecture: str
) -> None:
    pytest.importorskip("llguidance")
    run = load_run(make_run(tmp_path / "run", tiny_model(architecture)))
    golden = [prompt.ids for prompt in run.manifest.golden_prompts]
    assert run.encode(CONVERSATIONS) == golden
    answers = dict(run.stream(CONVERSATIONS, batch_size=2, constrained=True))
    assert all(Decomposition.parse(answer.text).is_valid for answer in answers.values())
    assert [answers[0], answers[1]] == run.answer(CONVERSATIONS, constrained=True)
    assert answers != dict(run.stream(CONVERSATIONS, batch_size=2))
    with run.untrained() as base:
        assert dict(base.stream(CONVERSATIONS, batch_size=2, constrained=True)) == answers  # it was never trained


def test_prompts_need_no_weights(tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    (run_dir / "model" / "model.safetensors").unlink()
    prompts = load_prompts(run_dir)
    assert prompts.encode(CONVERSATIONS) == [prompt.ids for prompt in prompts.manifest.golden_prompts]
    with pytest.raises(UserError, match=r"the weights of .* cannot be loaded"):
        load_weights(prompts)


def test_a_prompt_that_leaves_no_room_for_the_answer(tiny_model: TINY, tmp_path: Path) -> None:
    prompts = load_prompts(make_run(tmp_path / "run", tiny_model("gpt_neox")))
    assert prompts.positions == 2048
    with pytest.raises(UserError, match=r"make \d+ tokens, and the model has 2048 positions; shorten the question"):
        prompts.encode([*CONVERSATIONS, [{"role": "user", "content": "a b " * 2000}]])


def test_constrained_is_for_decompositions_with_room_for_one(tiny_model: TINY, tmp_path: Path) -> None:
    base = tiny_model("llama")
    other = make_run(tmp_path / "other", base, "tiny/full", "prompt.user={{ a }}", "prompt.completion={{ b }}")
    with pytest.raises(UserError, match="its answers are free text, and --constrained is for decompositions"):
        load_run(other).stream(CONVERSATIONS, constrained=True)
    short = load_run(make_run(tmp_path / "short", base, "tiny/full", "evaluation.max_new_tokens=9"))
    with pytest.raises(UserError, match=r"max_new_tokens 9 is too small for --constrained, which requires 1"):
        short.stream(CONVERSATIONS, constrained=True)


def test_the_guards_hold_without_weights_too(tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("qwen3"), lora_scale=0.1)
    manifest = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    manifest["base_model"]["config_sha256"] = "0" * 64
    (run_dir / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="is not the one that the adapter was trained on"):
        load_prompts(run_dir)
