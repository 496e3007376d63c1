"""The generation config of a finished run."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from qdsft.runs.manifest import Manifest


def generation_config(manifest: Manifest, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """generation_config.json of what leaves a run: greedy, ending where the run was trained to end.

    Sampling settings of the base model are left out: they would give other answers than were evaluated.
    """
    found = {
        "bos_token_id": tokenizer.bos_token_id,
        "do_sample": False,
        "eos_token_id": manifest.stop_token_ids,
        "max_new_tokens": manifest.load_recipe().evaluation.max_new_tokens,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return {key: value for key, value in found.items() if value is not None}
