"""Batched decoding equals one by one, stops by itself, and the loss is weighed by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdsft.encoder import Row
from qdsft.generate import Answer, generate, mean_loss


@pytest.fixture(scope="module", params=["llama", "gpt_neox", "qwen3", "gemma3_text"])
def loaded(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> tuple[Any, Any]:
    folder = tiny_model(request.param)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer


PROMPTS = [list(range(100, 100 + length)) for length in (3, 17, 5, 9, 30)]


def answers(model: Any, tokenizer: Any, prompts: list[list[int]], stop_ids: list[int], **options: Any) -> list[Answer]:
    by_index = dict(generate(model, tokenizer, prompts, stop_ids, **options))
    return [by_index[i] for i in range(len(prompts))]


def test_batched_equals_one_by_one_in_the_given_order(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    options: dict[str, Any] = {"max_new_tokens": 12}
    alone = [answers(model, tokenizer, [prompt], [2], batch_size=1, **options)[0] for prompt in PROMPTS]
    assert answers(model, tokenizer, PROMPTS, [2], batch_size=3, **options) == alone


def test_stops_at_a_stop_token_and_says_so(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    free = model.generate(torch.tensor([PROMPTS[1]]), max_new_tokens=8, do_sample=False, eos_token_id=[10**6])
    third = free[0, len(PROMPTS[1]) + 2].item()
    position = free[0, len(PROMPTS[1]) :].tolist().index(third)
    answer = answers(model, tokenizer, [PROMPTS[1]], [third], max_new_tokens=8, batch_size=1)[0]
    assert (answer.stopped, answer.tokens) == (True, position + 1)
    endless = answers(model, tokenizer, [PROMPTS[1]], [10**6], max_new_tokens=8, batch_size=1)[0]
    assert (endless.stopped, endless.tokens) == (False, 8)


def test_loss_is_weighed_by_token(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    rows = [Row([*PROMPTS[1], 7, 8, 9], 17), Row([5, 6, 7], 2)]
    total = 0.0
    for row in rows:
        logits = model(torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        total -= sum(logits[i - 1, row.input_ids[i]].item() for i in range(row.prompt_length, len(row.input_ids)))
    assert mean_loss(model, rows) == pytest.approx(total / 4, abs=1e-4)
