"""From messages to token ids and labels: the one way that training, evaluation and inference share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.examples import Example
from qdsft.prompt import Message

IGNORED = -100
"""The label of a token that carries no loss."""


@dataclass(frozen=True)
class Row:
    """One example as the model sees it."""

    input_ids: list[int]
    labels: list[int]
    """As input_ids where the token belongs to the completion, IGNORED elsewhere."""
    prompt_length: int


@dataclass(frozen=True)
class TokenizedRows:
    """Rows in the order of the examples, less those that `overlength: drop` removed."""

    rows: list[Row]
    examples: list[Example]
    dropped: int = 0
    truncated: int = 0

    def summary(self) -> dict[str, Any]:
        """Counts and shares, for the console and run.json."""
        lengths = [len(row.input_ids) for row in self.rows] or [0]
        supervised = sum(len(row.input_ids) - row.prompt_length for row in self.rows)
        return {
            "rows": len(self.rows),
            "tokens": sum(lengths),
            "shortest": min(lengths),
            "longest": max(lengths),
            "supervised_share": round(supervised / max(sum(lengths), 1), 4),
            "dropped": self.dropped,
            "truncated": self.truncated,
        }


def encode_prompts(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of prompts that wait for an answer: `[prompt][token]`.

    Raises UserError if the template refuses the messages, a message holds one of the tokenizer's
    special tokens as text, or the ids do not carry the template's own number of BOS tokens.
    """
    return _encode(tokenizer, conversations, add_generation_prompt=True)


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    stop_ids: Sequence[int],
    *,
    max_length: int | None,
    overlength: str,
) -> TokenizedRows:
    """Tokenize examples and mask their prompts.

    Raises UserError, naming file and line, for a row without a supervised token, a row whose answer
    does not end in a token of `stop_ids`, a prompt whose ids change once an answer follows it, and,
    with overlength "error", a row of more than `max_length` tokens.
    """
    sources = [example.record.source for example in examples]
    full = _encode(
        tokenizer, [_with_answer(example) for example in examples], add_generation_prompt=False, sources=sources
    )
    prompts = encode_prompts(tokenizer, [example.messages for example in examples])
    stops = frozenset(stop_ids)
    rows = [
        _checked_row(tokenizer, prompt, ids, stops, example.record.source)
        for prompt, ids, example in zip(prompts, full, examples, strict=True)
    ]
    too_long = [i for i, row in enumerate(rows) if max_length is not None and len(row.input_ids) > max_length]
    if not too_long or max_length is None:
        return TokenizedRows(rows, list(examples))
    if overlength == "error":
        worst = max(too_long, key=lambda i: len(rows[i].input_ids))
        raise UserError(
            f"{examples[worst].record.source}: {len(rows[worst].input_ids)} tokens, more than training.max_length "
            f"{max_length} ({len(too_long)} of {len(rows)} rows are too long); raise training.max_length, or set "
            "data.overlength to drop or truncate"
        )
    if overlength == "drop":
        kept = [i for i in range(len(rows)) if i not in set(too_long)]
        return TokenizedRows([rows[i] for i in kept], [examples[i] for i in kept], dropped=len(too_long))
    shortened = list(examples)
    for i in too_long:
        shortened[i], rows[i] = _shorten(tokenizer, examples[i], rows[i], stops, max_length)
    return TokenizedRows(rows, shortened, truncated=len(too_long))


def report(name: str, tokenized: TokenizedRows, max_length: int | None) -> None:
    """Say what was tokenized, and what overlength did."""
    facts = tokenized.summary()
    say(
        f"{name}: {facts['rows']} rows, {facts['tokens']} tokens ({facts['shortest']} to {facts['longest']} a row), "
        f"{facts['supervised_share']:.0%} supervised"
    )
    if tokenized.dropped or tokenized.truncated:
        say(
            f"{name}: over {max_length} tokens: {tokenized.dropped} rows dropped, {tokenized.truncated} rows shortened "
            "(data.overlength)"
        )


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    *,
    add_generation_prompt: bool,
    sources: Sequence[str] | None = None,
) -> list[list[int]]:
    special = _special_token_pattern(tokenizer)
    for i, conversation in enumerate(conversations):
        for message in conversation:
            if special and (found := special.search(message["content"])):
                where = f"{sources[i]}: " if sources else ""
                raise UserError(
                    f"{where}the text {message['content'][:40]!r} holds {found[0]!r}, which the tokenizer reads as a "
                    "special token; remove it"
                )
    if not conversations:
        return []
    try:
        texts = tokenizer.apply_chat_template(
            [list(conversation) for conversation in conversations],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except jinja2.TemplateError as error:
        raise UserError(f"the chat template refuses the messages: {error}") from error
    # The template has written BOS itself, so the tokenizer must not add another.
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    for text, row in zip(texts, ids, strict=True):
        check_bos(tokenizer, text, row)
    return ids


def check_bos(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> None:
    """Raise UserError unless `ids` carry exactly the BOS tokens that the template wrote into `text`."""
    if tokenizer.bos_token is None:
        return
    wanted, found = text.count(tokenizer.bos_token), ids.count(tokenizer.bos_token_id)
    if wanted != found:
        raise UserError(
            f"the chat template writes {wanted} {tokenizer.bos_token} but the tokenizer yields {found}; "
            "its settings add or remove them: use the model's own tokenizer files"
        )


def _special_token_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def _with_answer(example: Example) -> list[Message]:
    return [*example.messages, {"role": "assistant", "content": example.completion}]


def _checked_row(
    tokenizer: PreTrainedTokenizerBase, prompt: list[int], ids: list[int], stops: frozenset[int], source: str
) -> Row:
    if ids[: len(prompt)] != prompt:
        raise UserError(
            f"{source}: the prompt's tokens change once an answer follows, so the model would be asked something else "
            "than it was trained on; mend the chat template so that its generation prompt begins the full text"
        )
    if len(ids) == len(prompt):
        raise UserError(f"{source}: no token of this row carries loss; the chat template drops the answer")
    last = len(ids) - 1
    while last > len(prompt) and ids[last] not in stops and not tokenizer.decode([ids[last]]).strip():
        last -= 1  # such as the line break that ChatML writes after its end-of-turn token
    if ids[last] not in stops:
        raise UserError(
            f"{source}: the answer ends in {tokenizer.decode([ids[last]])!r}, where generation does not stop; end the "
            f"assistant turn of the chat template with {tokenizer.eos_token!r}"
        )
    return Row(ids, [IGNORED] * len(prompt) + ids[len(prompt) :], len(prompt))


def _shorten(
    tokenizer: PreTrainedTokenizerBase, example: Example, row: Row, stops: frozenset[int], max_length: int
) -> tuple[Example, Row]:
    """Cut the end of the user text until the row fits; the completion stays whole."""
    source, question = example.record.source, example.question
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    keep = len(offsets)
    while len(row.input_ids) > max_length:
        keep -= len(row.input_ids) - max_length
        text = question[: offsets[keep - 1][1]].rstrip() if keep > 0 else ""
        if not text:
            raise UserError(
                f"{source}: the row has more than training.max_length {max_length} tokens even without its user text; "
                "raise training.max_length or remove the row"
            )
        messages = (*example.messages[:-1], {"role": "user", "content": text})
        example = replace(example, messages=messages)
        prompt = encode_prompts(tokenizer, [messages])[0]
        ids = _encode(tokenizer, [_with_answer(example)], add_generation_prompt=False)[0]
        row = _checked_row(tokenizer, prompt, ids, stops, source)
    return example, row
