"""Several models that answer the same question: runs, and the base model before training.

Adapters of the same base model share its weights, so that a card which holds one run holds several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.inference.loaded_run import (
    FIRST_ADAPTER,
    LoadedRun,
    RunPrompts,
    attach_adapter,
    load_prompts,
    load_weights,
    with_model,
)


def attach(run: LoadedRun, name: str, prompts: RunPrompts) -> LoadedRun:
    """Another run's adapter under `name` on the base model of a loaded run, which both then share.

    The model's `set_adapter` says which of them computes. Only for runs between which `base_difference` finds none.
    Raises UserError if the adapter cannot be loaded.
    """
    attach_adapter(run.model, prompts.manifest.folder(prompts.run_dir), name)
    return with_model(prompts, run.machine, run.model)


def base_difference(one: RunPrompts, other: RunPrompts) -> str | None:
    """Why the adapters of two runs cannot share a loaded base model: what differs, in words; None if they can."""

    def parts(run: RunPrompts) -> dict[str, Any]:
        return {
            "base model": run.manifest.base_model,  # its name too: fine-tuned models keep their base's config
            "quantization": run.recipe.quantization,
            "model section": run.recipe.model.model_dump(exclude={"chat_template"}),
        }

    mine, others = parts(one), parts(other)
    if different := next((what for what in mine if mine[what] != others[what]), None):
        return different
    # PEFT keeps trained biases in the base model itself: they are there for one adapter alone.
    trains_biases = any((run.recipe.lora or {}).get("bias", "none") != "none" for run in (one, other))
    return "set of biases" if trains_biases else None


def load_beside(run: LoadedRun, name: str, run_dir: Path) -> LoadedRun:
    """As `attach`, for a run directory.

    Raises UserError as `attach` and `load_prompts` do, for a whole model, for what `base_difference` finds, and for
    another chat template.
    """
    if not isinstance(run.model, PeftModel):
        raise UserError(f"{run.run_dir}: is a whole model; only an adapter's base model can take another adapter")
    if not name or "." in name or name in run.model.peft_config:
        raise UserError(f"{name!r} cannot name another adapter; give a name of its own, without dots")
    prompts = load_prompts(run_dir)
    if prompts.manifest.artifact != "adapter":
        raise UserError(f"{run_dir}: is a whole model, not an adapter; load it by itself")
    different = base_difference(run, prompts)
    if different is None and run.manifest.template_sha256 != prompts.manifest.template_sha256:
        different = "chat template"
    if different:
        raise UserError(f"{run_dir}: was trained with another {different} than {run.run_dir}; load it by itself")
    return attach(run, name, prompts)


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
