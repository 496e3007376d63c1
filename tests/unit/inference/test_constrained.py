"""A random model, held by the grammar, writes valid decompositions with every tokenizer and template."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdsft.data.decomposition import Decomposition
from qdsft.errors import UserError
from qdsft.inference.constrained import Constraint, Grammar
from qdsft.inference.generate import Answer, generate
from qdsft.tokenization.chat_template import encode_prompts

pytest.importorskip("llguidance")
RECIPES = ROOT / "recipes"
MODELS = {
    "llama": "llama2",
    "mistral": "mistral",
    "gpt_neox": "koalpaca",
    "gemma3_text": "gemma3_270m",
    "qwen3": None,  # it brings its own
}
QUESTIONS = ["Who is older?", "서울과 부산 중 어디가 더 큰가요?", "a" * 60, "B?", "Did #1 win, or was it 🦊?"]


@pytest.fixture(scope="module", params=MODELS)
def loaded(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> tuple[Any, Any, list[int]]:
    return load(request.param, tiny_model)


def load(architecture: str, tiny_model: Callable[[str], Path]) -> tuple[Any, Any, list[int]]:
    """(model, tokenizer, stop ids)"""
    folder = tiny_model(architecture)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if recipe := MODELS[architecture]:
        tokenizer.chat_template = (RECIPES / recipe / "chat_template.jinja").read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    return model, tokenizer, eos if isinstance(eos, list) else [eos]


def conversation(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def decode(loaded: tuple[Any, Any, list[int]], tokens: int, batch_size: int = 3) -> list[Answer]:
    model, tokenizer, stop_ids = loaded
    grammar = Grammar(tokenizer, stop_ids, conversation("sample"))
    prompts = encode_prompts(tokenizer, [conversation(question) for question in QUESTIONS])
    options: dict[str, Any] = {"max_new_tokens": tokens, "batch_size": batch_size, "grammar": grammar}
    by_index = dict(generate(model, tokenizer, prompts, stop_ids, **options))
    return [by_index[i] for i in range(len(prompts))]


@pytest.mark.parametrize("tokens", [16, 17, 40])
def test_a_random_model_writes_valid_decompositions_however_short_the_budget(
    loaded: tuple[Any, Any, list[int]], tokens: int
) -> None:
    for answer in decode(loaded, tokens):
        assert Decomposition.parse(answer.text).problems() == ()
        assert answer.tokens <= tokens


def test_batched_equals_one_by_one(loaded: tuple[Any, Any, list[int]]) -> None:
    assert decode(loaded, 24, batch_size=5) == decode(loaded, 24, batch_size=1)


class Script:
    """Scores that want one token after the other, whatever the grammar thinks of it."""

    def __init__(self, wanted: list[list[int]], vocabulary: int) -> None:
        self.wanted, self.vocabulary = wanted, vocabulary

    def __call__(self, position: int) -> torch.Tensor:
        scores = torch.linspace(0, -1, self.vocabulary).repeat(len(self.wanted), 1)
        for row, tokens in enumerate(self.wanted):
            scores[row, tokens[min(position, len(tokens) - 1)]] = 5.0
        return scores


def play(loaded: tuple[Any, Any, list[int]], texts: list[str], tokens: int, vocabulary: int) -> list[tuple[str, bool]]:
    """(text up to the stop token, forced) for models that want to write `texts`, and then the stop token."""
    _, tokenizer, stop_ids = loaded
    grammar = Grammar(tokenizer, stop_ids, conversation("sample"))
    wanted = [[*written_ids(tokenizer, text), stop_ids[0]] for text in texts]
    script = Script(wanted, vocabulary)
    ids = torch.full((len(texts), 7), 5)  # the prompt
    constraint = Constraint(grammar, len(texts), 7, tokens)
    ended = torch.zeros(len(texts), dtype=torch.bool)
    for position in range(tokens):
        new = constraint(ids, script(position)).argmax(-1)
        new[ended] = tokenizer.pad_token_id
        ended |= torch.isin(new, torch.tensor(stop_ids))
        ids = torch.cat([ids, new[:, None]], dim=1)
    assert ended.all()
    found = []
    for row, forced in zip(ids[:, 7:].tolist(), constraint.forced, strict=True):
        end = next(i for i, token in enumerate(row) if token in stop_ids)
        found.append((tokenizer.decode(row[:end], clean_up_tokenization_spaces=False).strip(), forced))
    return found


def written_ids(tokenizer: Any, text: str) -> list[int]:
    """As the answer to a prompt, stop token and what follows it left out."""
    prompt = encode_prompts(tokenizer, [conversation("sample")])[0]
    answered = [*conversation("sample"), {"role": "assistant", "content": text}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    ids: list[int] = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)] == prompt
    ids = ids[len(prompt) :]
    return ids[: ids.index(tokenizer.eos_token_id)]


def test_a_valid_answer_passes_unchanged_and_is_not_forced(loaded: tuple[Any, Any, list[int]]) -> None:
    texts = ["1. 누가 더 큰가?\n2. Is #1 🦊?\n3. #2#1, C# 7", "1. a"]
    vocabulary = loaded[0].get_output_embeddings().weight.shape[0]
    assert play(loaded, texts, 200, vocabulary) == [(text, False) for text in texts]


@pytest.mark.parametrize("wrong", ["1. a\n2. #2?", "1. a\n3. b?", "1. a\n\n2. b", "a, b?", "1. #5 1. #1"])
def test_an_invalid_one_does_not(loaded: tuple[Any, Any, list[int]], wrong: str) -> None:
    text, _ = play(loaded, [wrong], 60, loaded[0].get_output_embeddings().weight.shape[0])[0]
    assert text != wrong and Decomposition.parse(text).problems() == ()


def test_an_endless_answer_is_ended_and_marked_as_forced(loaded: tuple[Any, Any, list[int]]) -> None:
    vocabulary = loaded[0].get_output_embeddings().weight.shape[0]
    endless = "1. " + "한국 a " * 100
    endless_steps = "\n".join(f"{n}. 뷁 {n}" for n in range(1, 30))
    for tokens in range(16, 60, 3):
        for text, forced in play(loaded, [endless, endless_steps], tokens, vocabulary):
            assert Decomposition.parse(text).problems() == () and forced


def test_nothing_chooses_a_row_of_the_embedding_that_has_no_token(loaded: tuple[Any, Any, list[int]]) -> None:
    _, tokenizer, stop_ids = loaded
    constraint = Constraint(Grammar(tokenizer, stop_ids, conversation("sample")), 1, 1, 100)
    scores = torch.zeros(1, len(tokenizer) + 100)
    scores[0, len(tokenizer) :] = 9.0
    assert int(constraint(torch.tensor([[5]]), scores).argmax()) < len(tokenizer)


def test_a_template_that_writes_words_before_the_answer_is_refused(tiny_model: Callable[[str], Path]) -> None:
    _, tokenizer, stop_ids = load("llama", tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'Sure: ' if m.role == 'assistant' }}{{ m.content + '\n' }}"
        "{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    )
    with pytest.raises(
        UserError, match=r"the chat template writes 'Sure: 1\. How .* which would be read as part of the answer"
    ):
        Grammar(tokenizer, stop_ids, conversation("sample"))


def test_without_llguidance_the_remedy_is_named(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer, stop_ids = load("llama", tiny_model)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(
        UserError, match=r"--constrained requires llguidance; install with: pip install -e '\S+\[constr"
    ):
        Grammar(tokenizer, stop_ids, conversation("sample"))


def test_ended_rows_stand_beside_others_whatever_the_size_of_the_vocabulary(tiny_model: Callable[[str], Path]) -> None:
    for extra in range(33):  # every remainder of the masks' 32-bit words
        _, tokenizer, stop_ids = load("llama", tiny_model)
        tokenizer.add_tokens([f"<extra{number}>" for number in range(extra)])
        grammar = Grammar(tokenizer, stop_ids, conversation("sample"))
        blank = torch.zeros(1, len(tokenizer))
        begin = Constraint(grammar, rows=1, prompt_width=1, max_new_tokens=50)(torch.tensor([[5]]), blank)
        ids = torch.tensor([[5, stop_ids[0]], [5, int(torch.isfinite(begin[0]).nonzero()[0])]])
        scores = Constraint(grammar, rows=2, prompt_width=1, max_new_tokens=50)(ids, blank.expand(2, -1))
        assert torch.isfinite(scores[0]).nonzero().flatten().tolist() == sorted(stop_ids)
        alone = Constraint(grammar, rows=1, prompt_width=1, max_new_tokens=50)(ids[1:], blank)
        assert torch.equal(scores[1:], alone)
        assert not torch.isfinite(alone[0, stop_ids]).any(), "the other row has not ended"
