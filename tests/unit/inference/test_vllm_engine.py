"""What vLLM would be given is what was trained; vLLM itself is not run here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_run import make_run

from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts
from qdsft.inference.vllm_engine import make_request, stream_ids


def test_the_prompts_are_the_trained_token_ids(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    golden = run.manifest.golden_prompts
    request = make_request(run, run.encode([prompt.messages for prompt in golden]))
    assert request.prompts == [{"prompt_token_ids": prompt.ids} for prompt in golden]
    assert request.sampling == {"temperature": 0.0, "max_tokens": 24, "stop_token_ids": [2], "detokenize": False}
    assert request.engine["model"] == request.engine["tokenizer"] == str(tmp_path / "run" / "model")
    assert request.adapter is None and "enable_lora" not in request.engine


def test_an_adapter_is_served_on_its_base(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("qwen3"), lora_scale=0.1))
    request = make_request(run, [[1, 2]])
    folder = tmp_path / "run" / "adapter"
    assert request.adapter == {"lora_name": "adapter", "lora_int_id": 1, "lora_path": str(folder)}
    assert request.engine["model"] == str(tiny_model("qwen3")) and request.engine["tokenizer"] == str(folder)
    assert (request.engine["enable_lora"], request.engine["max_lora_rank"]) == (True, 8)
    assert request.sampling["stop_token_ids"] == run.manifest.stop_token_ids and len(run.manifest.stop_token_ids) == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"r": 8}, 8),
        ({"r": 17}, 32),
        ({"r": 4, "rank_pattern": {"q_proj": 100}}, 128),
        ({"r": 513}, "vLLM supports adapters up to r 512, not 513; use --engine transformers"),
        ({"use_dora": True}, "vLLM does not support adapters with use_dora; use --engine transformers"),
        (
            {"modules_to_save": ["lm_head"]},
            "adapters with modules_to_save; use --engine transformers",
        ),
    ],
)
def test_ranks_and_kinds_of_adapters(
    tiny_model: Callable[[str], Path], tmp_path: Path, change: dict[str, Any], expected: int | str
) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama"), lora_scale=0.1))
    path = tmp_path / "run" / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    if isinstance(expected, int):
        assert make_request(run, []).engine["max_lora_rank"] == expected
    else:
        with pytest.raises(UserError, match=f"{expected}$"):
            make_request(run, [])


def test_without_vllm_the_remedy_is_named(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    with pytest.raises(UserError, match=r"--engine vllm requires vLLM; install it .* pip install 'vllm>=0.30', or use"):
        list(stream_ids(run, [[1]]))


def test_answers_come_back_in_order_chunk_by_chunk(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in with the documented interface, in place of what cannot be installed here.
    given: list[int] = []

    class Engine:
        def __init__(self, **options: Any) -> None:
            assert options["tokenizer"].endswith("model")

        def generate(self, prompts: list[Any], sampling: Any, lora_request: Any) -> list[Any]:
            given.append(len(prompts))
            assert lora_request is None and sampling["max_tokens"] == 24
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(*p["prompt_token_ids"], 2))]) for p in prompts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=Engine, SamplingParams=dict))
    monkeypatch.setattr("qdsft.inference.vllm_engine.CHUNK", 2)
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    texts = ["1. a", "1. b\n2. #1", "1. c"]
    ids = [run.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    answers = dict(stream_ids(run, ids))
    assert [answers[i].text for i in range(3)] == texts and all(answer.stopped for answer in answers.values())
    assert given == [2, 1]
