"""A LoRA adapter merged into its base model in memory, where that changes no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel

from qdsft.console import say
from qdsft.inference.generate import Batch
from qdsft.inference.generation_config import greedy_config
from qdsft.inference.loaded_run import LoadedRun, RunPrompts, load_weights

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.125}
"""The most that a logit may move, by the weights' format. The merged weights are rounded to that format; bfloat16
has 8 bits of mantissa, so that logits of 16 to 32 are multiples of 0.125 themselves."""
_ANSWER_TOKENS = 64
"""So many of each golden answer are compared: the logits of all of them are held in memory."""


def load_merged(prompts: RunPrompts) -> LoadedRun:
    """As `inference.load_weights`, with the adapter merged into an unquantized base model if that is exact enough.

    Compared are the logits behind the golden prompts and inside the adapter's own greedy answers to them: none may
    move by more than TOLERANCE, and the greedy token must be the same everywhere. If not, which is said, the run is
    loaded once more and its adapter stays beside the base. `untrained` of a merged run reads the base model anew.
    """
    run = load_weights(prompts)
    if not isinstance(run.model, PeftModel) or run.recipe.quantization:
        return run
    sequences = answered(run, [golden.ids for golden in run.manifest.golden_prompts], _ANSWER_TOKENS)
    before = answer_logits(run.model, sequences)
    try:
        merged = run.model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
    else:
        reason = difference(before, answer_logits(merged, sequences), TOLERANCE[run.model.dtype])
        if not reason:
            return replace(run, model=merged.eval())
        del merged
    say(f"the adapter is not merged: {reason}")
    del run  # before the weights are read once more, so that memory holds them once
    return load_weights(prompts)


def difference(before: list[torch.Tensor], after: list[torch.Tensor], tolerance: float) -> str:
    """What tells two lists of logits `[tokens, vocabulary]` apart, or ""."""
    moved = max(float((new - old).abs().max()) for old, new in zip(before, after, strict=True))
    other = sum(int((new.argmax(-1) != old.argmax(-1)).sum()) for old, new in zip(before, after, strict=True))
    if other:
        return f"{other} greedy tokens of the golden prompts' answers would change"
    return "" if moved <= tolerance else f"a logit moves by {moved:.3g}, more than {tolerance:g}"


def answered(run: LoadedRun, prompts: Sequence[list[int]], tokens: int) -> list[tuple[list[int], int]]:
    """(prompt and the first `tokens` of the run's greedy answer, the prompt's length) of every prompt."""
    config = greedy_config(run.tokenizer, run.manifest.stop_token_ids, min(tokens, run.max_new_tokens))
    sequences = []
    for ids in prompts:
        [answer] = Batch(run.model, [ids], config).run()
        sequences.append(([*ids, *answer.ids], len(ids)))
    return sequences


def answer_logits(model: Any, sequences: Sequence[tuple[list[int], int]]) -> list[torch.Tensor]:
    """`[answer tokens + 1, vocabulary]`, float32, of each sequence."""
    found = []
    model.eval()
    for ids, prompt_length in sequences:
        with torch.no_grad():
            batch = torch.tensor([ids], device=model.device)
            keep = len(ids) - prompt_length + 1
            found.append(model(input_ids=batch, use_cache=False, logits_to_keep=keep).logits[0].float().cpu())
    return found
