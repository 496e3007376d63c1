"""From chat messages to token ids: the one way that training, evaluation and inference share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from qdsft.errors import UserError
from qdsft.prompt import Message


def encode_prompts(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of prompts that wait for an answer: `[prompt][token]`.

    Raises UserError if the template refuses the messages, a message holds one of the tokenizer's
    special tokens as text, or the ids do not carry the template's own number of BOS tokens.
    """
    refuse_special_tokens(tokenizer, conversations, [None] * len(conversations))
    texts = render_texts(tokenizer, conversations, add_generation_prompt=True)
    ids = token_ids(tokenizer, texts)
    for text, row in zip(texts, ids, strict=True):
        check_bos(tokenizer, text, row)
    return ids


def check_bos(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> None:
    """Raise UserError unless `ids` carry exactly the BOS tokens that the template wrote into `text`."""
    bos = tokenizer.bos_token
    if bos is None:
        return
    wanted, found = text.count(bos), ids.count(tokenizer.bos_token_id)
    if wanted != found:
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
    template = _compile_jinja_template(tokenizer.get_chat_template())
    known = {**tokenizer.special_tokens_map, "add_generation_prompt": add_generation_prompt}
    try:
        return [
            template.render(messages=list(conversation), tools=None, documents=None, **known)
            for conversation in conversations
        ]
    except jinja2.TemplateError as error:
        raise UserError(f"the chat template refuses the messages: {error}") from error


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The template has written BOS itself, so the tokenizer must not add another."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids


def ids_and_lengths(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], boundaries: list[int]
) -> tuple[list[list[int]], list[int]]:
    """Token ids, and how many of them lie before each boundary (in characters); -1 where that is not clear."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not texts:
        return token_ids(tokenizer, texts), [-1] * len(texts)
    backend.no_truncation()
    backend.no_padding()
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    lengths = []
    for text, encoding, boundary in zip(texts, encodings, boundaries, strict=True):
        token = encoding.char_to_token(boundary) if boundary < len(text) else len(encoding)
        starts_there = token is not None and (token == len(encoding) or encoding.token_to_chars(token)[0] == boundary)
        lengths.append(token if starts_there else -1)
    return [encoding.ids for encoding in encodings], lengths
