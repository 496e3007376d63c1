"""From chat messages to token ids: the one way that training, evaluation and inference share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from qdsft.data.prompt import Message
from qdsft.errors import UserError
from qdsft.tokenization.template_frames import copies_contents, fill, fits, parts, stand_ins

MANY = 8
"""Conversations for which it is worth while to look through the template (see `frames`)."""


def encode_prompts(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of prompts that wait for an answer: `[prompt][token]`.

    Raises UserError if the template refuses the messages, a message holds one of the tokenizer's
    special tokens as text, or the ids do not carry the template's own number of BOS tokens.
    """
    refuse_special_tokens(tokenizer, conversations, [None] * len(conversations))
    texts = render_texts(tokenizer, conversations, add_generation_prompt=True)
    ids = token_ids(tokenizer, texts)
    check_bos(tokenizer, texts, lambda token: [row.count(token) for row in ids])
    return ids


def check_bos(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], count: Callable[[int], Iterable[int]]) -> None:
    """Raise UserError unless each row's ids carry exactly the BOS tokens that the template wrote into its text.

    `count` says how many of a token each row carries.
    """
    bos = tokenizer.bos_token
    if bos is None:
        return
    for text, found in zip(texts, count(tokenizer.bos_token_id), strict=True):
        if (wanted := text.count(bos)) != found:
            raise UserError(
                f"the chat template writes {wanted} {bos} but the tokenizer yields {found}; "
                "its settings add or remove them: use the model's own tokenizer files"
            )


def special_token_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Matches each of the tokenizer's special tokens, the longest first; None if it has none."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def refuse_special_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], sources: Sequence[str | None]
) -> None:
    special = special_token_pattern(tokenizer)
    if special is None:
        return
    for conversation, source in zip(conversations, sources, strict=True):
        for message in conversation:
            if found := special.search(message["content"]):
                where = f"{source}: " if source else ""
                raise UserError(
                    f"{where}the text {message['content'][:40]!r} holds {found[0]!r}, which the tokenizer reads as a "
                    "special token; remove it"
                )


def render_texts(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, add_generation_prompt: bool
) -> list[str]:
    """What the chat template makes of conversations; raises UserError if it refuses one.

    The same texts as tokenizer.apply_chat_template, whose care for tools and documents takes longer than the
    template itself.
    """
    source = tokenizer.get_chat_template()
    known = {**tokenizer.special_tokens_map, "add_generation_prompt": add_generation_prompt}
    try:
        template = _compile_jinja_template(source)
        render = partial(template.render, tools=None, documents=None, **known)
        if len(conversations) < MANY or not copies_contents(template.environment, source):
            return [render(messages=list(conversation)) for conversation in conversations]
        return _fill_all(render, conversations)
    except jinja2.TemplateError as error:
        raise UserError(f"the chat template refuses the messages: {error}") from error


def _fill_all(render: Callable[..., str], conversations: Sequence[Sequence[Message]]) -> list[str]:
    """The texts by a template that only copies contents, rendered once for all conversations of the same roles."""
    frames: dict[tuple[str, ...], list[str] | None] = {}
    texts = []
    for conversation in conversations:
        roles = tuple([message["role"] for message in conversation])
        contents = [message["content"] for message in conversation]
        if roles not in frames:
            unread = [{"role": role, "content": text} for role, text in zip(roles, stand_ins(len(roles)), strict=True)]
            frames[roles] = parts(render(messages=unread), len(roles))
        frame = frames[roles]
        texts.append(fill(frame, contents) if frame and fits(contents) else render(messages=list(conversation)))
    return texts


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The template has written BOS itself, so the tokenizer must not add another."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids
