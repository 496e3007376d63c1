"""Trace `qdsft evaluate` on one GPU: reading prompts, the last new token, scoring one row's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache

from qdsft.planning.peak import CACHE, LOSS
from qdsft.training.memory_trace.fake_model import FakeModel
from qdsft.training.memory_trace.live_storages import LiveStorages
from qdsft.training.memory_trace.training_step import count_weights


def trace_decoding(fake: FakeModel, live: LiveStorages, *, rows: int, prompt: int, new_tokens: int) -> None:
    """Decode `rows` rows together, each with `prompt` tokens and `new_tokens` new ones."""
    live.start("loading")
    count_weights(fake, live)
    cache = DynamicCache(config=fake.base.config.get_text_config())
    cache.update = _tagged(cache.update, live)  # type: ignore[method-assign]
    with torch.no_grad():
        live.start("prompt")
        _next_token(fake, live, cache, rows, prompt, prompt)
        live.start("growing cache")
        _grow(cache, live, new_tokens - 1)
        live.forget("growing cache")
        live.start("last token")
        _next_token(fake, live, cache, rows, 1, prompt + new_tokens)
        for layer in cache.layers:  # the cache refers to itself, so that it would live until garbage is collected
            vars(layer).clear()
        live.start("loss")
        live.tag = LOSS
        _loss(fake, prompt + new_tokens, new_tokens)


def _next_token(fake: FakeModel, live: LiveStorages, cache: Any, rows: int, tokens: int, seen: int) -> None:
    """Read tokens and choose the next, as transformers' `generate` does."""
    mask = torch.ones(rows, seen, dtype=torch.long) if rows > 1 else None
    inputs = {"input_ids": torch.zeros(rows, tokens, dtype=torch.long), "attention_mask": mask}
    output = fake.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    with live.tagged(LOSS):
        output.logits[:, -1, :].to(copy=True, dtype=torch.float32).argmax(dim=-1)


def _loss(fake: FakeModel, length: int, supervised: int) -> None:
    """Score one row, as `inference.generate.mean_loss` does."""
    ids = torch.zeros(1, length, dtype=torch.long)
    logits = fake.model(input_ids=ids, use_cache=False, logits_to_keep=supervised + 1).logits
    scores = torch.log_softmax(logits[0, -supervised - 1 : -1].float(), dim=-1)
    scores.gather(1, ids[0, -supervised:, None]).sum()


def _grow(cache: Any, live: LiveStorages, tokens: int) -> None:
    """Append keys and values of tokens that were decoded before."""
    with live.tagged(CACHE):
        for layer in cache.layers:
            keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
            if tokens and isinstance(keys, torch.Tensor) and isinstance(values, torch.Tensor) and keys.dim() == 4:
                shapes = [(*state.shape[:2], tokens, state.shape[3]) for state in (keys, values)]
                new = [torch.empty(shape, dtype=keys.dtype) for shape in shapes]
                layer.update(*new)


def _tagged(update: Callable[..., Any], live: LiveStorages) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        with live.tagged(CACHE):
            return update(*arguments, **options)

    return counted
