"""Merge a LoRA adapter into its base model in memory, if that changes no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel

from qdsft.console import say
from qdsft.errors import reason
from qdsft.inference.generate import Batch
from qdsft.inference.generation_config import greedy_config
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_weights

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.125}
"""Largest allowed change of a logit, by the number format to which the merged weights are rounded. bfloat16 has 8
bits of mantissa, so logits from 16 to 32 are multiples of 0.125."""
_ANSWER_TOKENS = 64
"""Tokens of each golden answer to compare; the logits of all of them are in memory."""


def load_merged(prompts: RunPrompts) -> LoadedRun:
    """Load a run as `load_weights` does, with the adapter merged into an unquantized base if that is exact enough.

    The logits of the adapter's greedy answers to the golden prompts are compared: none may change by more than
    TOLERANCE, and every greedy token must stay the same. Otherwise a message is printed, and the run is loaded again
    without merging. `untrained` of a merged run reads the base model again.
    """
    run = load_weights(prompts)
    if not isinstance(run.model, PeftModel) or run.recipe.quantization:
        return run
    sequences = answered(run, [golden.ids for golden in run.manifest.golden_prompts], _ANSWER_TOKENS)
    before = answer_logits(run.model, sequences)
    try:
        merged = run.model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, TypeError) as error:
        said = reason(error)
    else:
        said = difference(before, answer_logits(merged, sequences), TOLERANCE[run.model.dtype])
        if not said:
            return replace(run, model=merged.eval())
        del merged
    say(f"the adapter is not merged: {said}")
    del run  # free the weights before they are read again
    return load_weights(prompts)


def difference(before: list[torch.Tensor], after: list[torch.Tensor], tolerance: float) -> str:
    """Return how two lists of logits `[tokens, vocabulary]` differ in words, or "" within the tolerance."""
    moved = max(float((new - old).abs().max()) for old, new in zip(before, after, strict=True))
    other = sum(int((new.argmax(-1) != old.argmax(-1)).sum()) for old, new in zip(before, after, strict=True))
    if other:
        return f"{other} greedy tokens of the golden prompts' answers would change"
    return "" if moved <= tolerance else f"a logit moves by {moved:.3g}, more than {tolerance:g}"


def answered(run: LoadedRun, prompts: Sequence[list[int]], tokens: int) -> list[tuple[list[int], int]]:
    """Return each prompt with the first `tokens` of the run's greedy answer, and the prompt's length."""
    config = greedy_config(run.tokenizer, run.manifest.stop_token_ids, min(tokens, run.max_new_tokens))
    sequences = []
    for ids in prompts:
        [answer] = Batch(run.model, [ids], config).run()
        sequences.append(([*ids, *answer.ids], len(ids)))
    return sequences


def answer_logits(model: Any, sequences: Sequence[tuple[list[int], int]]) -> list[torch.Tensor]:
    """Return float32 logits `[answer tokens + 1, vocabulary]` of each sequence."""
    found = []
    model.eval()
    for ids, prompt_length in sequences:
        with torch.no_grad():
            batch = torch.tensor([ids], device=model.device)
            keep = len(ids) - prompt_length + 1
            found.append(model(input_ids=batch, use_cache=False, logits_to_keep=keep).logits[0].float().cpu())
    return found
