"""Training rows: token ids in which only the answer's tokens carry loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from qdsft.data.examples import Example
from qdsft.errors import UserError
from qdsft.model.template import template_name
from qdsft.tokenization.chat_template import check_bos, refuse_special_tokens, render_texts, token_ids

IGNORED = -100
"""Label of a token that carries no loss."""
BEFORE, AFTER = 8, 4
"""Characters before and after the end of the prompt that decide how the text is tokenized there."""


@dataclass(frozen=True)
class Row:
    """One tokenized example."""

    input_ids: list[int]
    prompt_length: int
    """Number of prompt tokens at the beginning, which carry no loss."""

    @property
    def answer_ids(self) -> list[int]:
        """Tokens that carry loss, including the stop token."""
        return self.input_ids[self.prompt_length :]

    @property
    def labels(self) -> list[int]:
        """`input_ids` with IGNORED for the prompt."""
        return [IGNORED] * self.prompt_length + self.answer_ids


class RowMaker:
    """Make training rows with one tokenizer and its chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self._stop_ids = frozenset(stop_ids)
        # Absent if the tokenizer is written in Python. Calling it directly saves a tenth of the time of a row.
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        self._thread = ThreadPoolExecutor(1)
        """Tokenizes one batch while Python renders the next."""

    def make(self, examples: Sequence[Example]) -> list[Row]:
        """Return a row for each example, of any length.

        Raises UserError, naming file and line, for a row without a supervised token, for an answer that
        does not end in a stop token, and for a prompt whose ids change once an answer follows it.
        """
        return self.start(examples)()

    def start(self, examples: Sequence[Example]) -> Callable[[], list[Row]]:
        """Render examples, and tokenize them in a thread until the returned function is called; raises as `make`."""
        if not examples:
            return list
        answered = [[*e.messages, {"role": "assistant", "content": e.completion}] for e in examples]
        refuse_special_tokens(self.tokenizer, answered, [example.record.source for example in examples])
        prompts = render_texts(self.tokenizer, [e.messages for e in examples], add_generation_prompt=True)
        texts = render_texts(self.tokenizer, answered, add_generation_prompt=False)
        for prompt, text, example in zip(prompts, texts, examples, strict=True):
            if not text.startswith(prompt):
                raise self._changed_prompt(example)
        if self._backend is None:
            return lambda: self._rows(examples, prompts, texts, token_ids(self.tokenizer, texts), [None] * len(texts))
        encoded = self._thread.submit(self._backend.encode_batch, texts, add_special_tokens=False)

        def finish() -> list[Row]:
            encodings = encoded.result()
            lengths = [_tokens_before(encoding, len(p)) for encoding, p in zip(encodings, prompts, strict=True)]
            return self._rows(examples, prompts, texts, [encoding.ids for encoding in encodings], lengths)

        return finish

    def _rows(
        self,
        examples: Sequence[Example],
        prompts: list[str],
        texts: list[str],
        all_ids: list[list[int]],
        lengths: list[int | None],
    ) -> list[Row]:
        """Check tokenized texts and return their rows. `lengths` are those of the prompts by the tokens' offsets.

        A token boundary at the end of the prompt does not prove that the prompt alone has the same ids: a pattern
        that splits words may look ahead. So one row of each distinct text around the boundary is also compared with
        its prompt tokenized alone, as SFTTrainer does with every row, and so is each row without such a boundary.
        """
        around = [(p[-BEFORE:], text[len(p) : len(p) + AFTER]) for p, text in zip(prompts, texts, strict=True)]
        first = {key: i for i, key in reversed(list(enumerate(around)))}
        compared = [i for i, key in enumerate(around) if lengths[i] is None or first[key] == i]
        for i, ids in zip(compared, token_ids(self.tokenizer, [prompts[i] for i in compared]), strict=True):
            if all_ids[i][: len(ids)] != ids or lengths[i] not in {None, len(ids)}:
                raise self._changed_prompt(examples[i])
            lengths[i] = len(ids)
        check_bos(self.tokenizer, texts, all_ids)
        rows = [Row(ids, length) for ids, length in zip(all_ids, lengths, strict=True) if length is not None]
        for row, example in zip(rows, examples, strict=True):
            if len(row.input_ids) == row.prompt_length or row.input_ids[-1] not in self._stop_ids:
                self._check_end(row.answer_ids, example)
        return rows

    def _check_end(self, answer_ids: list[int], example: Example) -> None:
        source, template = example.record.source, template_name(self.tokenizer)
        if not answer_ids:
            raise UserError(
                f"{source}: no token of this row carries loss; the chat template ({template}) drops the answer"
            )
        last = last_token(self.tokenizer, answer_ids, self._stop_ids)
        if last not in self._stop_ids:
            raise UserError(
                f"{source}: the answer ends in {self.tokenizer.decode([last])!r}, where generation does not stop; end "
                f"the assistant turn of the chat template ({template}) with {self.tokenizer.eos_token!r}"
            )

    def _changed_prompt(self, example: Example) -> UserError:
        return UserError(
            f"{example.record.source}: the prompt's tokens change once an answer follows, so the model would be asked "
            f"something else than it was trained on; fix the chat template ({template_name(self.tokenizer)}) so that "
            "the full text begins with the generation prompt"
        )


def _tokens_before(encoding: Encoding, end: int) -> int | None:
    """Return how many tokens lie before a character; None if no token begins there."""
    token = encoding.char_to_token(end)
    span = encoding.token_to_chars(token) if token is not None else None
    return token if span and span[0] == end else None


def last_token(tokenizer: PreTrainedTokenizerBase, answer_ids: Sequence[int], stop_ids: Collection[int]) -> int:
    """Return the last token of an answer, ignoring blanks after it such as the line break that ChatML writes."""
    last = len(answer_ids) - 1
    while last > 0 and answer_ids[last] not in stop_ids and not tokenizer.decode([answer_ids[last]]).strip():
        last -= 1
    return answer_ids[last]
