"""Batched, deterministic decoding, and the token-weighted loss of held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.inference.constrained import Constraint, Grammar
from qdsft.tokenization.rows import Row


@dataclass(frozen=True)
class Answer:
    """What the model wrote after a prompt."""

    text: str
    """Without special tokens and without blanks around it."""
    stopped: bool
    """Whether it ended by itself, in a stop token, before max_new_tokens."""
    tokens: int
    """Generated tokens, the stop token included."""


class PromptTooLarge(UserError):
    """A prompt that does not fit into memory even alone."""

    def __init__(self, index: int, tokens: int, max_new_tokens: int) -> None:
        super().__init__(
            f"a prompt of {tokens} tokens and evaluation.max_new_tokens {max_new_tokens} do not fit into memory; "
            "shorten the question"
        )
        self.index = index
        """Into the prompts that `generate` was given."""


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: bool = False,
    grammar: Grammar | None = None,
    halve: bool = True,
    watch: Callable[[str], None] | None = None,
) -> Iterator[tuple[int, Answer]]:
    """(index into `prompts`, greedy answer) as each batch ends; `prompts` are token ids, as encode_prompts gives them.

    Prompts are sorted by length, so that a batch holds little padding, and padded on the left. The longest come
    first: what does not fit into memory fails at once. A batch that does not fit is halved, which is said; raises
    PromptTooLarge for a single prompt. Where processes have to decode as many batches as one another, give
    halve=False: torch.OutOfMemoryError is then raised as it came. With a grammar every answer is one of its
    completions. `watch`, for a batch_size of 1, is called with the text so far behind every token; what it raises
    ends the decoding and is raised.
    """
    assert watch is None or batch_size == 1

    def show(new_ids: list[int]) -> None:
        if watch is not None:  # the bytes of a character may come one by one
            watch(read_answer(tokenizer, new_ids, stop_ids).text.rstrip("\ufffd"))

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    waiting = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with tqdm(total=len(prompts), desc="decoding", unit="row", disable=None if progress else True) as bar:
        while waiting:
            batch = waiting.pop(0)
            try:
                decoding = Batch(model, [prompts[i] for i in batch], tokenizer.pad_token_id, grammar, max_new_tokens)
                new = decoding.run(stop_ids, show if watch else None)
            except torch.OutOfMemoryError:
                if not halve:
                    raise
                if len(batch) > 1:
                    half = -(-len(batch) // 2)
                    say(f"out of memory while decoding; going on with {half} at a time")
                    waiting[:0] = [batch[:half], batch[half:]]
                    continue
                raise PromptTooLarge(batch[0], len(prompts[batch[0]]), max_new_tokens) from None
            for index, (new_ids, forced) in zip(batch, new, strict=True):
                yield index, read_answer(tokenizer, new_ids, stop_ids, forced=forced)
            bar.update(len(batch))


def read_answer(
    tokenizer: PreTrainedTokenizerBase, new_ids: Sequence[int], stop_ids: Sequence[int], *, forced: bool = False
) -> Answer:
    """The answer in generated token ids, whatever stands behind the first stop token left out.

    `forced` says that the stop token was not the model's own choice.
    """
    end = next((i for i, token in enumerate(new_ids) if token in set(stop_ids)), None)
    kept = list(new_ids if end is None else new_ids[:end])
    # Cleaning up would turn the numbered step "1. ?" into "1.?", which is no step any more.
    text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
    return Answer(text, end is not None and not forced, len(kept) + (end is not None))


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


class Batch:
    """Prompts that are decoded together, `[rows, tokens]`; rows that have ended leave once they are half of it."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], pad: int, grammar: Grammar | None, max_new_tokens: int
    ) -> None:
        width = max(len(prompt) for prompt in prompts)
        padded = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._model, self._pad, self._width, self._limit = model, pad, width, width + max_new_tokens
        self._ids = torch.tensor(padded, device=model.device)
        self._mask = torch.tensor(mask, device=model.device)
        self._cache: Any = None
        self._constraint = Constraint(grammar, len(prompts), width, max_new_tokens) if grammar else None
        self._watchers: list[_Watcher] = []

    def run(
        self, stop_ids: Sequence[int], watch: Callable[[list[int]], None] | None = None
    ) -> list[tuple[list[int], bool]]:
        """(new token ids, whether the end was forced) of each prompt.

        `watch` is given the new ids of the first prompt after every step.
        """
        self._watchers = [_Watcher(watch, self._width)] if watch else []
        rows = list(range(len(self._ids)))
        found: dict[int, tuple[list[int], bool]] = {}
        self._model.eval()
        while rows:
            ended = self._decode(stop_ids)
            forced = self._constraint.forced if self._constraint else [False] * len(rows)
            new_ids = self._ids[:, self._width :].tolist()
            found |= {row: (new_ids[i], forced[i]) for i, row in enumerate(rows) if ended[i]}
            staying = [i for i in range(len(rows)) if not ended[i]]
            rows = [rows[i] for i in staying]
            if rows:
                self._keep(staying)
        return [found[row] for row in range(len(found))]

    def _decode(self, stop_ids: Sequence[int]) -> list[bool]:
        """Go on until half of the rows have ended; returns which have, be it at max_new_tokens."""
        halfway = _HalfEnded(stop_ids, self._ids.device)
        with torch.no_grad():
            output = self._model.generate(
                input_ids=self._ids,
                attention_mask=self._mask,
                past_key_values=self._cache,
                max_new_tokens=self._limit - self._ids.shape[1],
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=None,
                use_cache=True,
                eos_token_id=list(stop_ids),
                pad_token_id=self._pad,
                stopping_criteria=[halfway, *self._watchers],
                logits_processor=[self._constraint] if self._constraint else [],
                return_dict_in_generate=True,
            )
        self._ids, self._cache = output.sequences, output.past_key_values
        if self._ids.shape[1] == self._limit:
            return [True] * len(self._ids)
        ended: list[bool] = halfway.ended.tolist()
        return ended

    def _keep(self, rows: list[int]) -> None:
        chosen = torch.tensor(rows, device=self._ids.device)
        new = self._ids.shape[1] - self._mask.shape[1]
        self._ids = self._ids[chosen]
        self._mask = torch.nn.functional.pad(self._mask[chosen], (0, new), value=1)
        self._cache.batch_select_indices(chosen)
        if self._constraint:
            self._constraint.keep(rows)


class _HalfEnded(StoppingCriteria):
    """Stops a batch when at least half of its rows have written a stop token."""

    def __init__(self, stop_ids: Sequence[int], device: Any) -> None:
        self._stop_ids = torch.tensor(list(stop_ids), device=device)
        self.ended: Any = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.ended = torch.isin(input_ids[:, -1], self._stop_ids) | self.ended
        enough: torch.Tensor = 2 * self.ended.sum() >= len(self.ended)
        return enough.expand(len(self.ended))


class _Watcher(StoppingCriteria):
    """Hands over the new token ids of the first row after every step; stops nothing but by what `watch` raises."""

    def __init__(self, watch: Callable[[list[int]], None], prompt_width: int) -> None:
        self._watch = watch
        self._width = prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._watch(input_ids[0, self._width :].tolist())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
