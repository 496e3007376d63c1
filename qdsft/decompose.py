"""Stage: a question in, its sub-questions out, with the prompt that the run was trained on."""

from __future__ import annotations

from pathlib import Path

from qdsft.answers.answer_formats import check_format, show_answer
from qdsft.decomposition import Decomposition
from qdsft.inference import load_run


class Decomposer:
    """A finished run, ready to answer.

    >>> decompose = Decomposer("outputs/tiny-full")        # doctest: +SKIP
    >>> decompose("Who is older, A or B?").steps           # doctest: +SKIP
    ('How old is A?', 'How old is B?', 'Is #1 more than #2?')

    With `constrained=True` every answer is a valid decomposition, as `qdsft.constrained` has it.
    Raises UserError as `qdsft.inference.load_run` and `LoadedRun.grammar` do.
    """

    def __init__(self, run_dir: str | Path, *, constrained: bool = False) -> None:
        self.run = load_run(Path(run_dir))
        self._constrained = constrained
        if constrained:
            self.run.grammar  # noqa: B018 - fails now rather than at the first question

    def __call__(self, question: str) -> Decomposition:
        """Decompose one question; raises UserError for empty or unusable text."""
        return Decomposition.parse(self.text(question))

    def text(self, question: str) -> str:
        """The model's answer as it wrote it; for runs of other tasks too."""
        messages = self.run.writer.messages(self.run.writer.record(question))
        return self.run.answer([messages], constrained=self._constrained)[0].text


def show(decomposer: Decomposer, question: str, fmt: str) -> tuple[str, str | None]:
    """(text for standard output, warning or None) for one question; raises UserError as `show_answer` does."""
    is_decomposition = decomposer.run.writer.is_decomposition
    check_format(fmt, decomposition=is_decomposition)
    return show_answer(fmt, question, decomposer.text(question), decomposition=is_decomposition)
