"""Load several models that answer the same question: runs, and the base model before training.

Adapters of the same base model share its weights, so a GPU that holds one run can hold several.
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
    """Load another run's adapter under `name` onto the base model of a loaded run, which both then share.

    `set_adapter` of the model chooses the adapter. `base_difference` of the two runs must be None. Raises UserError if
    the adapter cannot be loaded.
    """
    attach_adapter(run.model, prompts.manifest.weights_folder(prompts.run_dir), name)
    return with_model(prompts, run.machine, run.model)


def base_difference(one: RunPrompts, other: RunPrompts) -> str | None:
    """Return what differs between the base models of two runs, or None if their adapters can share one."""

    def parts(run: RunPrompts) -> dict[str, Any]:
        return {
            "base model": run.manifest.base_model,  # includes the name: fine-tuned models keep their base's config
            "quantization": run.recipe.quantization,
            "model section": run.recipe.model.model_dump(exclude={"chat_template"}),
        }

    mine, others = parts(one), parts(other)
    if different := next((what for what in mine if mine[what] != others[what]), None):
        return different
    # PEFT writes trained biases into the base model, which then fits one adapter only.
    trains_biases = any((run.recipe.lora or {}).get("bias", "none") != "none" for run in (one, other))
    return "set of biases" if trains_biases else None


def load_beside(run: LoadedRun, name: str, run_dir: Path) -> LoadedRun:
    """Load the adapter of a run directory as `attach` does, with the consent to remote code given for `run`.

    Raises UserError as `attach` and `load_prompts` do, for a whole model, and for another base model or chat template.
    """
    if not isinstance(run.model, PeftModel):
        raise UserError(f"{run.run_dir}: is a whole model; only an adapter's base model can take another adapter")
    if not name or "." in name or name in run.model.peft_config:
        raise UserError(f"{name!r} cannot name another adapter; give a new name without dots")
    prompts = load_prompts(run_dir, trust_remote_code=run.recipe.model.trust_remote_code)
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
    """One of the models, with its name."""

    name: str
    run: LoadedRun
    adapter: str | None = None
    """Name of its adapter in the shared model; None for a whole model."""
    is_base: bool = False

    @contextmanager
    def ready(self) -> Iterator[LoadedRun]:
        """Activate the run's own weights; only one thread at a time may use it."""
        if self.adapter is not None:
            self.run.model.set_adapter(self.adapter)
        if self.is_base and isinstance(self.run.model, PeftModel):
            with self.run.untrained() as untrained:
                yield untrained
        else:
            yield self.run


def load_columns(run_dirs: Sequence[Path], *, base: bool = False, trust_remote_code: bool = False) -> list[Column]:
    """Load the runs in order and, with `base`, the base model of the first.

    The prompts of all runs are checked before weights are read. Raises UserError as `load_prompts` and `load_weights`
    do.
    """
    every = [load_prompts(run_dir, trust_remote_code=trust_remote_code) for run_dir in run_dirs]
    columns: list[Column] = []
    for prompts, name in zip(every, _names(run_dirs), strict=True):
        say(f"loading {prompts.run_dir}")
        columns.append(_beside(columns, prompts, name) or _alone(prompts, name))
    if base:
        columns.append(_base(columns[0]))
    return columns


def _names(run_dirs: Sequence[Path]) -> list[str]:
    """Return the names of the folders, or the given paths if two names are equal."""
    short = [run_dir.resolve().name for run_dir in run_dirs]
    return short if len(set(short)) == len(short) else [str(run_dir) for run_dir in run_dirs]


def _alone(prompts: RunPrompts, name: str) -> Column:
    run = load_weights(prompts)
    return Column(name, run, FIRST_ADAPTER if isinstance(run.model, PeftModel) else None)


def _beside(columns: Sequence[Column], prompts: RunPrompts, name: str) -> Column | None:
    """Return the run as another adapter of a loaded base model, or None if no loaded model fits."""
    if prompts.manifest.artifact != "adapter":
        return None
    adapters = (column.run for column in columns if column.adapter is not None)
    host = next((run for run in adapters if base_difference(run, prompts) is None), None)
    adapter = f"adapter_{len(columns)}"
    return None if host is None else Column(name, attach(host, adapter, prompts), adapter)


def _base(column: Column) -> Column:
    """Return the base model of a run; for a fully trained model, the base model is loaded too."""
    name = f"base: {column.run.recipe.model.name_or_path}"
    say(f"loading {name}" if column.adapter is None else f"{name} is the model below the adapter")
    with column.run.untrained() as untrained:
        return Column(name, untrained, column.adapter, is_base=True)
