"""Serve the page of `qdsft demo` with models whose answers a test sets."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from helpers.ports import free_port

from qdsft.data.task import Task, task_of
from qdsft.deploy.demo import app
from qdsft.deploy.demo.page import Model, build_page
from qdsft.deploy.listening import LOCAL_NAMES
from qdsft.inference.generate import Answer
from qdsft.recipe.sections import Prompt

DECOMPOSITION = task_of(Prompt())
FREE_TEXT = task_of(Prompt(user="x", completion="y"))


def writes(name: str, text: str, *, seconds: float = 0, stopped: bool = True, task: Task = DECOMPOSITION) -> Model:
    """A model that answers every question with `text`, a few characters at a time, within `seconds`."""

    def stream(_question: str) -> Generator[str | Answer, None, None]:
        for end in range(1, len(text), 4):
            time.sleep(seconds * 4 / len(text))
            yield text[:end]
        yield Answer(text, stopped, len(text))

    return Model(name, task, stream)


@contextmanager
def served(*models: Model, examples: tuple[str, ...] = ("Who is older, Ada or Bo?",)) -> Iterator[tuple[Any, int]]:
    """Serve the page; yield it and its port."""
    page, port = build_page(models, examples), free_port()
    app.launch(page, "127.0.0.1", port, [*LOCAL_NAMES], share=False)
    try:
        yield page, port
    finally:
        page.close(verbose=False)
