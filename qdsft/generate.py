"""Batched, deterministic decoding, and the token-weighted loss of held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from qdsft.encoder import Row


@dataclass(frozen=True)
class Answer:
    """What the model wrote after a prompt."""

    text: str
    """Without special tokens and without blanks around it."""
    stopped: bool
    """Whether it ended by itself, in a stop token, before max_new_tokens."""
    tokens: int
    """Generated tokens, the stop token included."""


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: bool = False,
) -> Iterator[tuple[int, Answer]]:
    """(index into `prompts`, greedy answer) as each batch ends; `prompts` are token ids, as encode_prompts gives them.

    Prompts are sorted by length, so that a batch holds little padding, and padded on the left. The longest come
    first: what does not fit into memory fails at once.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    with tqdm(total=len(prompts), desc="decoding", unit="row", disable=None if progress else True) as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            new = _generate_batch(model, tokenizer, [prompts[i] for i in batch], stop_ids, max_new_tokens)
            for index, new_ids in zip(batch, new, strict=True):
                yield index, _answer(tokenizer, new_ids, stop_ids)
            bar.update(len(batch))


def mean_loss(model: Any, rows: Sequence[Row]) -> float:
    """Negative log-likelihood per supervised token, over all rows together, in nats.

    A mean of batch means would weigh short answers more than long ones.
    """
    total, count = 0.0, 0
    model.eval()
    for row in rows:
        supervised = len(row.input_ids) - row.prompt_length
        ids = torch.tensor([row.input_ids], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=supervised + 1).logits
        scores = torch.log_softmax(logits[0, -supervised - 1 : -1].float(), dim=-1)
        targets = ids[0, row.prompt_length :]
        total -= float(scores.gather(1, targets[:, None]).sum())
        count += supervised
    return total / count


def _generate_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    max_new_tokens: int,
) -> list[list[int]]:
    width = max(len(prompt) for prompt in prompts)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    model.eval()
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=None,
            use_cache=True,
            eos_token_id=list(stop_ids),
            pad_token_id=pad,
        )
    new_ids: list[list[int]] = output[:, width:].tolist()
    return new_ids


def _answer(tokenizer: PreTrainedTokenizerBase, new_ids: list[int], stop_ids: Sequence[int]) -> Answer:
    end = next((i for i, token in enumerate(new_ids) if token in set(stop_ids)), None)
    kept = new_ids if end is None else new_ids[:end]
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Answer(text, end is not None, len(kept) + (end is not None))
