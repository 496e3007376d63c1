"""Render chat messages and tokenize them: training, evaluation and inference share these functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from qdsft.data.prompt import Message
from qdsft.errors import UserError, reason
from qdsft.model.foreign_files import foreign_errors
from qdsft.model.template import has_fixed_date, template_name
from qdsft.time_limit import time_limit

RENDER_SECONDS = 10.0
"""For one conversation; a hundredth more for each further one."""


def encode_prompts(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Return the token ids of prompts that end where the answer begins: `[prompt][token]`.

    Raises UserError if the template rejects the messages, if a message contains one of the tokenizer's
    special tokens as text, or if the ids do not have the BOS tokens that the template writes.
    """
    refuse_special_tokens(tokenizer, conversations, [None] * len(conversations))
    texts = render_texts(tokenizer, conversations, add_generation_prompt=True)
    ids = token_ids(tokenizer, texts)
    check_bos(tokenizer, texts, ids)
    return ids


def render_texts(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, add_generation_prompt: bool
) -> list[str]:
    """Return the text of each conversation.

    Raises UserError if the chat template is not valid, rejects a conversation, or takes over RENDER_SECONDS for it.
    """
    # tokenizer.apply_chat_template gives the same texts, but its handling of tools and documents takes as long again.
    known = {**tokenizer.special_tokens_map, "add_generation_prompt": add_generation_prompt}
    try:
        with time_limit(RENDER_SECONDS * (1 + len(conversations) / 100)):
            template = _compile_jinja_template(tokenizer.get_chat_template())
            return [template.render(messages=list(c), tools=None, documents=None, **known) for c in conversations]
    except jinja2.TemplateSyntaxError as error:
        line = error.lineno - has_fixed_date(str(tokenizer.chat_template))
        raise UserError(
            f"the chat template ({template_name(tokenizer)}) is not valid Jinja in its line {line}: {error.message}; "
            "correct it"
        ) from error
    except jinja2.TemplateError as error:
        raise UserError(
            f"the chat template ({template_name(tokenizer)}) refuses the messages: {reason(error)}; "
            "change the messages or the template"
        ) from error
    except Exception as error:  # a template may raise anything
        raise UserError(
            f"the chat template ({template_name(tokenizer)}) cannot be rendered: {reason(error)}; correct it"
        ) from error


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Return the token ids of rendered texts: `[text][token]`."""
    if not texts:
        return []
    # The template writes BOS, so the tokenizer must not add another one. data.overlength handles long rows, so the
    # tokenizer's own warning about them (verbose) would be noise.
    with foreign_errors("tokenizer", tokenizer.name_or_path):
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def beyond_vocabulary(tokenizer: PreTrainedTokenizerBase, token: int, size: int) -> str:
    """Return the message for a token that a model of `size` embeddings does not have."""
    text = tokenizer.convert_ids_to_tokens(token)
    return (
        f"the tokenizer yields token {token} ({text!r}), and the model has {size} embeddings (vocab_size in "
        "config.json); use the tokenizer that the model was saved with"
    )


def check_bos(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
    """Raise UserError unless the ids of each text have as many BOS tokens as the template wrote into the text."""
    bos = tokenizer.bos_token
    if bos is None:
        return
    for text, row in zip(texts, ids, strict=True):
        expected, found = text.count(bos), row.count(tokenizer.bos_token_id)
        if expected != found:
            raise UserError(
                f"the chat template ({template_name(tokenizer)}) writes {expected} {bos} but the tokenizer yields "
                f"{found}; its settings add or remove them: use the model's own tokenizer files"
            )


def special_token_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Return a pattern that matches any special token of the tokenizer, longest first; None if there is none."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None


def refuse_special_tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], sources: Sequence[str | None]
) -> None:
    """Raise UserError, naming the source, for a message that contains a special token as text."""
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
