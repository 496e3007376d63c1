"""Decode in batches: greedily, or with tokens that are drawn at random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.inference.constrained import Constraint, Grammar
from qdsft.inference.draw import Draw, Sampling
from qdsft.inference.generation_config import contiguous_head, greedy_config, without_base_settings
from qdsft.inference.progress import Progress, ShowTokens
from qdsft.model.device_errors import is_out_of_memory


@dataclass(frozen=True)
class Answer:
    """The model's answer to one prompt."""

    text: str
    """Without special tokens and surrounding whitespace."""
    stopped: bool
    """Whether the model itself ended the answer with a stop token; False if max_new_tokens or the grammar ended it."""
    tokens: int
    """Number of generated tokens, including the stop token."""


@dataclass(frozen=True)
class NewTokens:
    """Generated token ids of one prompt."""

    ids: list[int]
    forced: bool
    """True if the grammar ended the answer, not the model."""


class PromptTooLarge(UserError):
    """A single prompt does not fit into memory."""

    def __init__(self, index: int, tokens: int, max_new_tokens: int) -> None:
        super().__init__(
            f"a prompt of {tokens} tokens and evaluation.max_new_tokens {max_new_tokens} do not fit into memory; "
            "shorten the question"
        )
        self.index = index
        """Index into the prompts that `generate` was given."""


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
    sharded: bool = False,
    watch: Callable[[str], None] | None = None,
    sampling: Sampling | None = None,
) -> Iterator[tuple[int, Answer]]:
    """Yield (index into `prompts`, answer) batch by batch; `prompts` are token ids from `encode_prompts`.

    Prompts are sorted by length, longest first, so that batches hold little padding and running out of memory shows at
    once. A batch that runs out of memory is halved, with a message. Raises PromptTooLarge if a single prompt does.

    Answers are greedy unless `sampling` is given, which draws them at random; a prompt that occurs several times in a
    batch is then read once. With `grammar`, every answer is one of its completions. `sharded` says that processes share
    the weights and must make the same forward calls: no batch is halved, and running out of memory is raised as it is.
    `watch`, which requires batch_size 1, is called with the text so far after every token; its exceptions end the
    decoding.
    """
    assert watch is None or batch_size == 1

    def watch_text(new_ids: list[int]) -> None:
        if watch is not None:  # a character may be incomplete: its bytes can come token by token
            watch(read_answer(tokenizer, new_ids, stop_ids).text.rstrip("\ufffd"))

    config = greedy_config(tokenizer, stop_ids, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    waiting = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    with Progress(len(prompts), shown=progress) as bar:
        while waiting:
            batch = waiting.pop(0)
            try:
                draw = sampling.draw(batch) if sampling else None
                decoding = Batch(model, [prompts[i] for i in batch], config, grammar, sharded=sharded, draw=draw)
                new = decoding.run(watch_text if watch else None, bar)
            except RuntimeError as error:
                if sharded or not is_out_of_memory(error):
                    raise
                if len(batch) > 1:
                    half = -(-len(batch) // 2)
                    say(f"out of memory while decoding; continuing with {half} rows at a time")
                    waiting[:0] = [batch[:half], batch[half:]]
                    continue
                raise PromptTooLarge(batch[0], len(prompts[batch[0]]), max_new_tokens) from None
            for index, tokens in zip(batch, new, strict=True):
                yield index, read_answer(tokenizer, tokens.ids, stop_ids, forced=tokens.forced)
            bar.add_rows(len(batch))


def read_answer(
    tokenizer: PreTrainedTokenizerBase, new_ids: Sequence[int], stop_ids: Sequence[int], *, forced: bool = False
) -> Answer:
    """Return the answer in generated token ids, without the first stop token and what follows it.

    `forced` says that the model did not choose the stop token itself.
    """
    end = next((i for i, token in enumerate(new_ids) if token in set(stop_ids)), None)
    kept = list(new_ids if end is None else new_ids[:end])
    # Cleaning up would turn the numbered step "1. ?" into "1.?", which is not a step.
    text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
    return Answer(text, end is not None and not forced, len(kept) + (end is not None))


class Batch:
    """Prompts that are decoded together, `[rows, tokens]`, padded on the left.

    When half of the rows have ended, decoding continues with the other half, unless the weights are sharded: processes
    whose rows end at different steps would then call the model a different number of times, and wait forever.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        config: GenerationConfig,
        grammar: Grammar | None = None,
        *,
        sharded: bool = False,
        draw: Draw | None = None,
    ) -> None:
        width = max(len(prompt) for prompt in prompts)
        padded = [[config.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._model, self._config, self._sharded = model, config, sharded
        self._width, self._limit = width, width + config.max_new_tokens
        self._ids = torch.tensor(padded, device=model.device)
        self._mask = torch.tensor(mask, device=model.device)
        self._cache: Any = None
        self._draw = draw
        self._constraint = Constraint(grammar, len(prompts), width, config.max_new_tokens) if grammar else None

    def run(
        self, watch: Callable[[list[int]], None] | None = None, progress: Progress | None = None
    ) -> list[NewTokens]:
        """Return the new tokens of each prompt; `watch` gets the new ids of the first prompt after every step."""
        watchers: list[StoppingCriteria] = [_Watcher(watch, self._width)] if watch else []
        watchers += [ShowTokens(progress, self._width)] if progress else []
        rows = list(range(len(self._ids)))
        found: dict[int, NewTokens] = {}
        self._model.eval()
        if self._draw:
            self._read_equal_prompts_once()
        while rows:
            ended = self._decode(watchers)
            forced = self._constraint.forced if self._constraint else [False] * len(rows)
            new_ids = self._ids[:, self._width :].tolist()
            found |= {row: NewTokens(new_ids[i], forced[i]) for i, row in enumerate(rows) if ended[i]}
            staying = [i for i in range(len(rows)) if not ended[i]]
            rows = [rows[i] for i in staying]
            if rows:
                self._keep(staying)
        return [found[row] for row in range(len(found))]

    def _decode(self, watchers: list[StoppingCriteria]) -> list[bool]:
        """Decode until enough rows have ended, and return for each row whether it has."""
        ended = _Ended(self._config.eos_token_id, self._ids.device, share=1.0 if self._sharded else 0.5)
        config = copy.copy(self._config)
        config.max_new_tokens = self._limit - self._ids.shape[1]
        config.return_dict_in_generate = True
        with torch.no_grad(), without_base_settings(self._model), contiguous_head(self._model):
            output = self._model.generate(
                input_ids=self._ids,
                attention_mask=self._mask,
                past_key_values=self._cache,
                generation_config=config,
                stopping_criteria=[ended, *watchers],
                logits_processor=[one for one in (self._constraint, self._draw) if one],
                synced_gpus=self._sharded,
            )
        self._ids, self._cache = output.sequences, output.past_key_values
        if self._ids.shape[1] == self._limit:
            return [True] * len(self._ids)
        return ended.rows()

    def _read_equal_prompts_once(self) -> None:
        """Fill the cache from the different prompts, all but their last tokens, and copy it to the rows."""
        prompts = [tuple(row) for row in torch.cat([self._ids, self._mask], dim=1).tolist()]
        places = {prompt: place for place, prompt in reversed(list(enumerate(prompts)))}
        if len(places) == len(prompts) or self._width == 1 or not self._mask[:, -2].all():
            return
        chosen = sorted(places.values())
        config = copy.copy(self._config)
        config.max_new_tokens, config.return_dict_in_generate = 1, True
        with torch.no_grad(), without_base_settings(self._model), contiguous_head(self._model):
            output = self._model.generate(
                input_ids=self._ids[chosen, :-1], attention_mask=self._mask[chosen, :-1], generation_config=config
            )
        if _holds_only_keys_and_values(output.past_key_values):
            rows = [chosen.index(places[prompt]) for prompt in prompts]
            output.past_key_values.batch_select_indices(torch.tensor(rows, device=self._ids.device))
            self._cache = output.past_key_values

    def _keep(self, rows: list[int]) -> None:
        chosen = torch.tensor(rows, device=self._ids.device)
        new = self._ids.shape[1] - self._mask.shape[1]
        self._ids = self._ids[chosen]
        self._mask = torch.nn.functional.pad(self._mask[chosen], (0, new), value=1)
        if _holds_only_keys_and_values(self._cache):
            self._cache.batch_select_indices(chosen)
        else:
            self._cache = None  # the next call reads prompts and answers again
        for processor in (self._constraint, self._draw):
            if processor:
                processor.keep(rows)


def _holds_only_keys_and_values(cache: Any) -> bool:
    """Return whether rows of the cache can be selected: no layer has a state of linear attention or convolution."""
    layers = getattr(cache, "layers", [])
    selectable = [hasattr(layer, "batch_select_indices") and not hasattr(layer, "conv_states") for layer in layers]
    return bool(selectable) and all(selectable)


class _Ended(StoppingCriteria):
    """Stop a batch when at least this share of its rows has a stop token."""

    def __init__(self, stop_ids: Sequence[int], device: Any, *, share: float) -> None:
        self._stop_ids = torch.tensor(list(stop_ids), device=device)
        self._share = share
        self._ended: Any = False

    def rows(self) -> list[bool]:
        """Return for each row whether it has ended."""
        ended: list[bool] = self._ended.tolist()
        return ended

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._ended = torch.isin(input_ids[:, -1], self._stop_ids) | self._ended
        enough: torch.Tensor = self._ended.sum() >= self._share * len(self._ended)
        return enough.expand(len(self._ended))


class _Watcher(StoppingCriteria):
    """Call `watch` with the new token ids of the first row after every step."""

    def __init__(self, watch: Callable[[list[int]], None], prompt_width: int) -> None:
        self._watch = watch
        self._width = prompt_width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self._watch(input_ids[0, self._width :].tolist())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
