"""Several models that answer the same question: runs, and the base model before training.

Adapters of the same base model share its weights, so that a card which holds one run holds several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel

from qdsft.console import say
from qdsft.inference import (
    FIRST_ADAPTER,
    LoadedRun,
    RunPrompts,
    attach,
    base_difference,
    load_prompts,
    load_weights,
)


@dataclass(frozen=True)
class Column:
    """One of the models, with what it is called."""

    name: str
    run: LoadedRun
    adapter: str | None = None
    """Name of its adapter in the model that it shares with others; None where there are no adapters."""
    is_base: bool = False

    @contextmanager
    def ready(self) -> Iterator[LoadedRun]:
        """The run with its own weights in force, to be used by one thread at a time."""
        if self.adapter is not None:
            self.run.model.set_adapter(self.adapter)
        if self.is_base and isinstance(self.run.model, PeftModel):
            with self.run.untrained() as untrained:
                yield untrained
        else:
            yield self.run


def load_columns(run_dirs: Sequence[Path], *, base: bool = False) -> list[Column]:
    """The runs in order and, with `base`, the base model of the first.

    The prompts of all are checked before any weights are read. Raises UserError as `load_prompts` and `load_weights`
    do.
    """
    every = [load_prompts(run_dir) for run_dir in run_dirs]
    columns: list[Column] = []
    for prompts, name in zip(every, _names(run_dirs), strict=True):
        say(f"loading {prompts.run_dir}")
        columns.append(_beside(columns, prompts, name) or _alone(prompts, name))
    if base:
        columns.append(_base(columns[0]))
    return columns


def _names(run_dirs: Sequence[Path]) -> list[str]:
    """The folders' names, or where two are alike the paths as they were given."""
    short = [run_dir.resolve().name for run_dir in run_dirs]
    return short if len(set(short)) == len(short) else [str(run_dir) for run_dir in run_dirs]


def _alone(prompts: RunPrompts, name: str) -> Column:
    run = load_weights(prompts)
    return Column(name, run, FIRST_ADAPTER if isinstance(run.model, PeftModel) else None)


def _beside(columns: Sequence[Column], prompts: RunPrompts, name: str) -> Column | None:
    """The run as one more adapter of a base model that is loaded; None if there is no such model."""
    if prompts.manifest.artifact != "adapter":
        return None
    adapters = (column.run for column in columns if column.adapter is not None)
    host = next((run for run in adapters if base_difference(run, prompts) is None), None)
    adapter = f"adapter_{len(columns)}"
    return None if host is None else Column(name, attach(host, adapter, prompts), adapter)


def _base(column: Column) -> Column:
    """The base model of a run; one that was trained as a whole has its base model loaded beside it."""
    name = f"base: {column.run.recipe.model.name_or_path}"
    say(f"loading {name}" if column.adapter is None else f"{name} is the model below the adapter")
    with column.run.untrained() as untrained:
        return Column(name, untrained, column.adapter, is_base=True)
