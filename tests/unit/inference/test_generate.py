"""Batched decoding equals one by one, stops by itself, and the loss is weighed by token."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from qdsft.inference.generate import Answer, PromptTooLarge, generate, read_answer


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


def test_rows_that_end_early_leave_the_batch_and_change_nothing(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    options: dict[str, Any] = {"max_new_tokens": 16}
    free = answers(model, tokenizer, PROMPTS, [10**6], batch_size=5, **options)
    assert [answer.tokens for answer in free] == [16] * 5
    written = [whole_answer(model, prompt) for prompt in PROMPTS]
    # Stop tokens that make the rows end at different times.
    stop_ids = sorted({written[0][2], written[1][5], written[2][9], written[3][12]})
    seen: list[int] = []
    forward = model.forward

    def counting(*arguments: Any, **keywords: Any) -> Any:
        seen.append(len(keywords["input_ids"]))
        return forward(*arguments, **keywords)

    model.forward = counting
    try:
        together = answers(model, tokenizer, PROMPTS, stop_ids, batch_size=5, **options)
    finally:
        del model.forward
    expected = []
    for ids in written:
        end = next((i for i, token in enumerate(ids) if token in stop_ids), 16)
        expected.append((min(end + 1, 16), end < 16))
    assert [(answer.tokens, answer.stopped) for answer in together] == expected
    assert together == [answers(model, tokenizer, [p], stop_ids, batch_size=1, **options)[0] for p in PROMPTS]
    assert seen[0] == 5 and seen == sorted(seen, reverse=True)
    assert (min(seen) < 5) == (sorted(tokens for tokens, _ in expected)[2] < max(tokens for tokens, _ in expected))


def test_no_row_leaves_a_batch_early_where_weights_are_sharded(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    written = [whole_answer(model, prompt) for prompt in PROMPTS]
    stop_ids = sorted({written[0][2], written[1][5], written[2][9]})
    calls: list[dict[str, Any]] = []
    real = model.generate

    def counting(**options: Any) -> Any:
        calls.append(options)
        return real(**{**options, "synced_gpus": False})  # this process is alone

    options: dict[str, Any] = {"max_new_tokens": 16, "batch_size": 5}
    expected = answers(model, tokenizer, PROMPTS, stop_ids, **options)
    monkeypatch.setattr(model, "generate", counting)
    assert answers(model, tokenizer, PROMPTS, stop_ids, **options, sharded=True) == expected
    assert [call["synced_gpus"] for call in calls] == [True]


COMMON = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
EVERY_OTHER = {"layer_types": ["linear_attention", "full_attention"] * 2, "head_dim": 8}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
STATE_MODELS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_ff_dim": 64},
    "qwen3_5_text": LINEAR | EVERY_OTHER,
    "qwen3_next": LINEAR | EVERY_OTHER | EXPERTS,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2},
    "mamba2": {"head_dim": 8, "num_heads": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "head_dim": 8},
}


@pytest.mark.parametrize("kind", STATE_MODELS)
def test_models_with_a_linear_attention_or_convolution_state_decode_in_batches(
    kind: str, tiny_model: Callable[[str], Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"), pad_token="</s>")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **COMMON | STATE_MODELS[kind])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)  # the default writes one token again and again
    written = [whole_answer(model, prompt) for prompt in PROMPTS]
    stop_ids = [written[0][2], written[1][5], written[2][9], written[3][12]]
    options: dict[str, Any] = {"max_new_tokens": 16}
    together = answers(model, tokenizer, PROMPTS, stop_ids, batch_size=5, **options)
    ends = [next((i + 1 for i, token in enumerate(ids) if token in stop_ids), 16) for ids in written]
    assert [answer.tokens for answer in together] == ends and len(set(ends)) > 2
    assert together == [answers(model, tokenizer, [p], stop_ids, batch_size=1, **options)[0] for p in PROMPTS]


def whole_answer(model: Any, prompt: list[int]) -> list[int]:
    """16 greedy tokens, with none of our code."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(16):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    new: list[int] = ids[0, len(prompt) :].tolist()
    return new


class OutOfMemory:
    """A model on a GPU that holds so many tokens of prompts at a time."""

    def __init__(self, model: Any, room: int) -> None:
        self.model, self.room, self.device = model, room, model.device
        self.sizes: list[int] = []
        self.generation_config = model.generation_config
        self.get_output_embeddings = model.get_output_embeddings

    def eval(self) -> None:
        self.model.eval()

    def generate(self, **options: Any) -> Any:
        self.sizes.append(len(options["input_ids"]))
        if options["input_ids"].numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model.generate(**options)


def test_a_batch_that_does_not_fit_into_memory_is_halved(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    options: dict[str, Any] = {"max_new_tokens": 4, "batch_size": 5}
    small = OutOfMemory(model, 40)
    assert answers(small, tokenizer, PROMPTS, [10**6], **options) == answers(
        model, tokenizer, PROMPTS, [10**6], **options
    )
    assert small.sizes[:3] == [5, 3, 2]
    done = generate(OutOfMemory(model, 20), tokenizer, PROMPTS, [10**6], **options)
    with pytest.raises(PromptTooLarge, match=r"a prompt of 30 tokens and evaluation\.max_new_tokens 4 do") as got:
        list(done)
    assert got.value.index == 4
    whole = OutOfMemory(model, 40)
    with pytest.raises(torch.OutOfMemoryError):  # other processes would wait for the halves
        list(generate(whole, tokenizer, PROMPTS, [10**6], **options, sharded=True))
    assert whole.sizes == [5]


def test_an_answer_is_read_as_it_was_written(loaded: tuple[Any, Any]) -> None:
    _, tokenizer = loaded
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.clean_up_tokenization_spaces = True  # as older tokenizer files say
    ids = tokenizer("1. ? a , b", add_special_tokens=False)["input_ids"]
    stop = tokenizer.eos_token_id
    assert read_answer(tokenizer, [*ids, stop, 5], [stop]) == Answer("1. ? a , b", True, len(ids) + 1)
    assert read_answer(tokenizer, ids, [stop]) == Answer("1. ? a , b", False, len(ids))
    assert read_answer(tokenizer, [*ids, stop], [stop], forced=True) == Answer("1. ? a , b", False, len(ids) + 1)
