"""Check that the tokens of each answer read back as the answer of its row, as they will after decoding."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedTokenizerBase

from qdsft.data.decomposition import Decomposition
from qdsft.data.examples import Example
from qdsft.data.task import Task
from qdsft.data.text import normalise
from qdsft.errors import UserError, cut
from qdsft.tokenization.rows import Row


class ReadBack:
    """Decode trained answers and compare them with their rows."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int], task: Task, template: str
    ) -> None:
        self._tokenizer = tokenizer
        self._stop_ids = frozenset(stop_ids)
        self._task = task
        self._template = template
        """The chat template's name, for messages."""

    def check(self, rows: Sequence[tuple[Row, Example]]) -> None:
        """Raise UserError, naming file and line, for the first answer that reads back as another."""
        answers = [self._before_stop(row.answer_ids) for row, _ in rows]
        for text, (_, example) in zip(self._decode(answers), rows, strict=True):
            # Most texts are equal, which takes no parsing.
            if text.strip() != example.completion.strip() and not self._same(text, example.completion):
                raise self._error(text, example)

    def _before_stop(self, ids: list[int]) -> list[int]:
        if self._stop_ids.isdisjoint(ids[:-1]):
            return ids[:-1] if ids[-1] in self._stop_ids else ids
        return ids[: next(index for index, token in enumerate(ids) if token in self._stop_ids)]

    def _decode(self, answers: list[list[int]]) -> list[str]:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:  # in threads
            decoded: list[str] = backend.decode_batch(answers, skip_special_tokens=True)
            return decoded
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return [str(self._tokenizer.decode(ids, **options)) for ids in answers]

    def _same(self, text: str, completion: str) -> bool:
        """Return whether the trained text is the answer, apart from spacing and what the tokenizer itself changes.

        Some tokenizers change case, width or Unicode composition of any text; a template must not.
        """
        if self._parts(text) == self._parts(completion):
            return True
        return self._normal(text) == self._normal(completion) and self._parts(text) == self._parts(
            self._own(completion)
        )

    def _own(self, completion: str) -> str:
        """Return what the tokenizer makes of the answer without a template."""
        return self._decode([self._tokenizer(completion, add_special_tokens=False)["input_ids"]])[0]

    def _parts(self, text: str) -> list[str]:
        answer = self._task.parse(text)
        parts = (*answer.steps, *answer.format_problems) if isinstance(answer, Decomposition) else (answer,)
        return [" ".join(part.split()) for part in parts]

    def _normal(self, text: str) -> list[str]:
        return [normalise(part) for part in self._parts(text)]

    def _error(self, text: str, example: Example) -> UserError:
        found = f"{example.record.source}: the answer is trained as {cut(text.strip(), 80)!r}"
        if self._normal(self._own(example.completion)) != self._normal(example.completion):
            return UserError(
                f"{found}, not as {cut(example.completion, 80)!r}: the tokenizer cannot represent its characters; use "
                "a model whose tokenizer can, or remove the row"
            )
        return UserError(
            f"{found}, which does not read back as the row's answer: the chat template ({self._template}) changes the "
            "answer or writes more, such as a thinking block; set model.chat_template to one that writes the answer "
            "alone, as recipes/*/chat_template.jinja do"
        )
