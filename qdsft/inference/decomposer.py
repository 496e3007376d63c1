"""Answer questions one at a time, with the prompt that the run was trained on."""

from __future__ import annotations

import threading
from pathlib import Path

from qdsft.data.decomposition import Decomposition
from qdsft.data.task import Shown
from qdsft.errors import UserError
from qdsft.inference.loaded_run import FIRST_ADAPTER, LoadedRun, load_run
from qdsft.inference.side_by_side import load_beside
from qdsft.runs.manifest import Manifest


class Decomposer:
    """Answer questions with a finished run.

    >>> decompose = Decomposer("outputs/tiny-full")        # doctest: +SKIP
    >>> decompose("Who is older, A or B?").steps           # doctest: +SKIP
    ('How old is A?', 'How old is B?', 'Is #1 more than #2?')

    Threads can share a decomposer, which answers one question after the other.
    With `constrained=True` every answer is a valid decomposition, see `qdsft.inference.constrained`.
    `trust_remote_code=True` lets Python code in the model's folder run on this machine.
    Raises UserError as `qdsft.inference.loaded_run.load_run` and `LoadedRun.grammar` do.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        constrained: bool = False,
        manifest: Manifest | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.run = load_run(Path(run_dir), manifest, trust_remote_code=trust_remote_code)
        self._constrained = constrained
        self._others: dict[str, LoadedRun] = {}
        self._lock = threading.Lock()
        if constrained:
            self.run.grammar  # noqa: B018 - fails now rather than at the first question

    def add_adapter(self, name: str, run_dir: str | Path) -> None:
        """Load another run's adapter onto the same base model; calls with `adapter=name` use it.

        The other run keeps its prompt and length limit. Raises UserError as
        `qdsft.inference.side_by_side.load_beside` and `LoadedRun.grammar` do.
        """
        other = load_beside(self.run, name, Path(run_dir))
        if self._constrained:
            other.grammar  # noqa: B018
        self._others[name] = other

    def __call__(self, question: str, *, adapter: str | None = None) -> Decomposition:
        """Decompose one question; raises UserError for empty or unusable text, and for an unknown adapter."""
        return Decomposition.parse(self.text(question, adapter=adapter))

    def text(self, question: str, *, adapter: str | None = None) -> str:
        """Return the model's answer as plain text. Also works for runs whose answers are free text."""
        run = self.choose(adapter)
        messages = run.task.messages(run.task.typed_record(question))
        with self._lock:  # the active adapter and the tokenizer are shared
            if self._others:
                self.run.model.set_adapter(adapter or FIRST_ADAPTER)
            return run.answer([messages], constrained=self._constrained)[0].text

    def choose(self, adapter: str | None) -> LoadedRun:
        """Return the run of an adapter; None is the first run. Raises UserError for an unknown adapter."""
        if adapter is not None and adapter not in self._others:
            known = ", ".join(self._others) or "none was added"
            raise UserError(f"there is no adapter {adapter!r} ({known}); add it with add_adapter")
        return self._others[adapter] if adapter else self.run


def show_answer(decomposer: Decomposer, question: str, fmt: str, adapter: str | None = None) -> Shown:
    """Return the answer to one question in a format of `Task.formats`. `adapter` names an added adapter.

    Raises UserError as `Task.show` and `Decomposer.choose` do.
    """
    task = decomposer.choose(adapter).task
    task.check_format(fmt)
    return task.show(fmt, question, decomposer.text(question, adapter=adapter))
