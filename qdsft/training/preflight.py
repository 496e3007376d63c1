"""Build a run as training does, check everything that must hold before its first step, and discard it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext

from qdsft.console import is_main_process
from qdsft.errors import UserError
from qdsft.files import exclusive
from qdsft.recipe import Recipe
from qdsft.training.checks import Check, run_checks
from qdsft.training.run_setup import build_run, join_launch, prepare_run


def preflight(recipe: Recipe) -> Iterator[Check]:
    """Yield each check of a recipe as it is done. A part of the run that cannot be built is the last, failed check.

    Every process of a launch checks its own part. Writes only the prepared data, which training reads later, and a
    temporary folder beside the run directory.
    """
    folder = recipe.run_dir.with_name(f".{recipe.run_dir.name}.preflight")
    apart = recipe.model_copy(update={"training": {**recipe.training, "output_dir": str(folder)}})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder) if is_main_process() else nullcontext():
        folder.mkdir(exist_ok=True)
        try:
            yield from _checks(apart)
        finally:
            if is_main_process():
                shutil.rmtree(folder, ignore_errors=True)


def _checks(recipe: Recipe) -> Iterator[Check]:
    name = "launch"
    try:
        machine = join_launch(recipe)
        name = "data"
        inputs = prepare_run(recipe)
        data = inputs.prepared.facts.data
        yield Check(name, True, f"{data.train_rows} rows to train on, {data.eval_rows} held out")
        name = "model"
        run = build_run(inputs)
    except UserError as error:
        yield Check(name, False, str(error))
        return
    weights = sum(weight.numel() for weight in run.trainer.model.parameters() if weight.requires_grad)
    yield Check(name, True, f"{weights:,} weights to train on {machine.device_type} ({machine.name})")
    yield from run_checks(run, thorough=True)
