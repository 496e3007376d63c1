"""Make transformers' handler of chat requests decode with a run's grammar, and stop when nobody waits."""

from __future__ import annotations

import copy
import threading
from functools import partial
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from qdsft.deploy.chat_rules import ChatRules
from qdsft.deploy.request_queue import GONE
from qdsft.inference.constrained import Constraint, Grammar


def apply_rules(handler: Any, rules: ChatRules) -> None:
    """Change one ChatCompletionHandler, so that it answers by `rules` and at most the run's number of tokens.

    The handler gets a copy of the model for each request, which shares the weights and has another `generate`.
    """
    resolve = handler._resolve_model

    def resolve_by_rules(body: dict[str, Any]) -> tuple[str, Any, Any]:
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
            body["max_tokens"] = rules.max_new_tokens
        name, model, processor = resolve(body)
        served = copy.copy(model)
        served.generate = partial(_generate, model, rules.grammar if rules.constrains(body) else None, GONE.get())
        return name, served, processor

    handler._resolve_model = resolve_by_rules


def _generate(model: Any, grammar: Grammar | None, gone: threading.Event, **options: Any) -> torch.Tensor:
    """Return prompt and answer, `[1, tokens]`, as `model.generate(**options)` does."""
    prompt: torch.Tensor = options["input_ids"]
    if gone.is_set():  # while it waited for its turn
        if streamer := options.get("streamer"):
            streamer.end()
        return prompt
    processors: list[LogitsProcessor] = []
    if grammar:
        processors = [Constraint(grammar, len(prompt), prompt.shape[1], options["generation_config"].max_new_tokens)]
    answer: torch.Tensor = model.generate(**options, logits_processor=processors, stopping_criteria=[_Gone(gone)])
    return answer


class _Gone(StoppingCriteria):
    """Stop when nobody waits for the answer."""

    def __init__(self, gone: threading.Event) -> None:
        self._gone = gone

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._gone.is_set(), device=input_ids.device)
