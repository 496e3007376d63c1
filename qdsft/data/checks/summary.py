"""Summarise in one line what `qdsft data check` finds, for the commands that use the data."""

from __future__ import annotations

import shlex

from qdsft.data.checks.check_files import RowChecks, check_example, check_files, recipe_inputs
from qdsft.data.checks.problems import Level, Tally
from qdsft.data.examples import Example
from qdsft.data.readers import scan
from qdsft.data.sources import is_hub_id
from qdsft.data.task import make_task
from qdsft.recipe import Recipe


def summarise_check(recipe: Recipe, *, lengths: bool) -> str | None:
    """Return the number of problems of each kind and the command that lists them; None if there are none.

    `lengths` also counts tokens, if the tokenizer is on this machine. Data on the Hub are not checked.
    """
    if _is_on_hub(recipe):
        return None
    tally = Tally()
    for _ in check_files(recipe_inputs(recipe, None, scan, tally), tally, lengths=lengths):
        pass
    return _summary(recipe, tally)


class RunningCheck:
    """Summarise the warnings about rows while training prepares them, without a second pass over the files."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._task = make_task(recipe)
        self._tally = Tally()
        compare = bool(recipe.data.eval) and not is_hub_id(recipe.data.eval or "")
        self._checks = RowChecks(self._tally, compare=compare)
        self._sides = set() if _is_on_hub(recipe) else {"train", "eval"} if compare else {"train"}

    def add(self, side: str, example: Example) -> None:
        """Check a row of data.eval or data.train (`side`), the held-out rows first."""
        if side in self._sides:
            self._checks.add(side, check_example(example, self._task))

    def summary(self) -> str | None:
        """Return what `summarise_check` returns for these rows, which have no errors."""
        return _summary(self._recipe, self._tally)


def _is_on_hub(recipe: Recipe) -> bool:
    return any(map(is_hub_id, recipe.data.train_paths))


def _summary(recipe: Recipe, tally: Tally) -> str | None:
    if not tally.counts:
        return None
    found = ", ".join(_counted(tally, level) for level in ("error", "warning") if _kinds(tally, level))
    command = ["qdsft", "data", "check", *recipe.data.train_paths]
    if recipe.data.eval and not is_hub_id(recipe.data.eval):
        command += ["--eval", recipe.data.eval]
    return f"data check: {found}; list them with: {shlex.join([*command, '--recipe', str(recipe.path)])}"


def _kinds(tally: Tally, level: Level) -> list[tuple[str, int]]:
    return [(kind, count) for (found, kind), count in tally.counts.most_common() if found == level]


def _counted(tally: Tally, level: Level) -> str:
    kinds = _kinds(tally, level)
    total = sum(count for _, count in kinds)
    return f"{total} {level}{'s' if total > 1 else ''} ({', '.join(f'{count} {kind}' for kind, count in kinds)})"
