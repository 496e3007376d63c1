"""Draws have the distribution that they should, and depend on their seed alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdsft.inference.draw import TOP_K, Sampling
from qdsft.inference.generate import Answer, generate

NONE = torch.zeros(1, 0, dtype=torch.long)


def drawn(shares: list[float], rows: int = 4000, temperature: float = 1.0, top_p: float = 1.0) -> Counter[int]:
    """Tokens that are drawn from a vocabulary with these probabilities."""
    draw = Sampling(temperature, top_p, [str(row) for row in range(rows)]).draw(range(rows))
    scores = draw(NONE, torch.tensor(shares).log().expand(rows, -1))
    assert (scores.isfinite().sum(-1) == 1).all()
    return Counter(scores.argmax(-1).tolist())


def test_draws_follow_the_probabilities() -> None:
    found = drawn([0.1, 0.6, 0.0, 0.3])
    assert [round(found[token] / 4000, 1) for token in range(4)] == [0.1, 0.6, 0.0, 0.3]


def test_a_low_temperature_takes_the_likeliest_token() -> None:
    assert set(drawn([0.3, 0.4, 0.3], rows=200, temperature=0.01)) == {1}


@pytest.mark.parametrize(("top_p", "tokens"), [(0.5, {1}), (0.65, {1, 3}), (0.91, {0, 1, 3}), (0.001, {1})])
def test_top_p_leaves_out_the_tail(top_p: float, tokens: set[int]) -> None:
    assert set(drawn([0.1, 0.6, 0.0, 0.3], top_p=top_p)) == tokens


def test_only_the_likeliest_tokens_of_a_large_vocabulary_are_drawn() -> None:
    assert set(drawn([1.0 / (place + 1) for place in range(TOP_K * 2)])) == set(range(TOP_K))


def test_a_row_keeps_its_draws_when_others_leave() -> None:
    sampling = Sampling(1.0, 1.0, ["a", "b", "c"])
    scores = torch.zeros(3, 1000)
    alone = sampling.draw([2])
    expected = [int(alone(NONE, scores[:1]).argmax()) for _ in range(6)]
    together = sampling.draw([0, 1, 2])
    found = [int(together(NONE, scores)[2].argmax()) for _ in range(3)]
    together.keep([2])
    found += [int(together(NONE, scores[:1])[0].argmax()) for _ in range(3)]
    assert found == expected and len(set(found)) > 1


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_samples_of_equal_prompts_read_them_once_and_do_not_depend_on_the_batch(
    architecture: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(architecture))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    prompts = [list(range(100, 100 + length)) for length in (30, 9) for _ in range(3)]
    sampling = Sampling(1.5, 0.9, [str(place) for place in range(len(prompts))])
    read: list[tuple[int, ...]] = []
    forward = model.forward

    def counting(*arguments: Any, **keywords: Any) -> Any:
        read.append(tuple(keywords["input_ids"].shape))
        return forward(*arguments, **keywords)

    def answers(batch_size: int) -> list[Answer]:
        options: dict[str, Any] = {"max_new_tokens": 12, "batch_size": batch_size, "sampling": sampling}
        found = dict(generate(model, tokenizer, prompts, [2, *range(300, 340)], **options))
        return [found[place] for place in range(len(prompts))]

    monkeypatch.setattr(model, "forward", counting)
    together = answers(6)
    assert read[:2] == [(2, 29), (6, 1)]
    assert together == answers(1) == answers(4) and len({one.text for one in together}) == 6
