"""Plain greedy decoding: the one generation config with which runs are evaluated, merged, served and pushed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from qdsft.model.adapters import base_model
from qdsft.runs.manifest import Manifest


def greedy_config(tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int], max_new_tokens: int) -> GenerationConfig:
    """Return a config for greedy decoding in which every other setting has its default."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        do_sample=False,
        eos_token_id=list(stop_ids),
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )


def generation_config(manifest: Manifest, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the generation_config.json of a run for other programs: `greedy_config` as JSON."""
    max_new_tokens = manifest.load_recipe().evaluation.max_new_tokens
    values: dict[str, Any] = greedy_config(tokenizer, manifest.stop_token_ids, max_new_tokens).to_diff_dict()
    values.pop("transformers_version", None)
    return values


@contextmanager
def without_base_settings(model: Any) -> Iterator[None]:
    """Hide the model's own generation config from `generate`, which fills every unset value from it.

    A base model may come with no_repeat_ngram_size, suppress_tokens, cache_implementation and so on. They would change
    greedy answers, and the merged, served or pushed model does not have them.
    """
    base = base_model(model)
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = own


@contextmanager
def contiguous_head(model: Any) -> Iterator[None]:
    """Copy the last hidden states of a batch before the head multiplies them, inside this block.

    They are a slice, which PyTorch multiplies with one view of the head for each row. On a CPU this is 5 times as slow
    in float32. In bfloat16 it copies the head for each row, which takes gigabytes and 400 times as long.
    """
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: tuple(one.contiguous() for one in inputs))
    try:
        yield
    finally:
        hook.remove()
