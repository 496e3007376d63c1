"""Stage: build a run as training would, check all that must hold before its first step, and throw it away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from accelerate import PartialState

from qdsft.console import say
from qdsft.errors import UserError
from qdsft.files import exclusive
from qdsft.model.device import find_machine
from qdsft.model.loading import load_config, load_model, load_tokenizer, stop_token_ids
from qdsft.recipe import Recipe
from qdsft.tokenization.prepared import describe, prepare
from qdsft.training.activation_checkpointing import settle_recomputation
from qdsft.training.build import build_config, build_trainer
from qdsft.training.checks import Check, Readiness
from qdsft.training.decode_held_out import training_evaluation


def preflight(recipe: Recipe) -> Iterator[Check]:
    """The checks of a recipe as they are done: data first, then what needs the model.

    Nothing is written but the prepared data, which training reads later, and a folder beside the run directory
    that goes at the end. What cannot be built is a check that failed, and the last.
    """
    folder = recipe.run_dir.with_name(f".{recipe.run_dir.name}.preflight")
    apart = recipe.model_copy(update={"training": {**recipe.training, "output_dir": str(folder)}})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        folder.mkdir(exist_ok=True)
        try:
            yield from _checks(apart)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _checks(recipe: Recipe) -> Iterator[Check]:
    name = "data"
    try:
        machine = find_machine()
        PartialState(cpu=machine.device == "cpu")
        config, tokenizer = load_config(recipe), load_tokenizer(recipe)
        stop_ids = stop_token_ids(recipe, tokenizer, config)
        prepared = prepare(recipe, tokenizer, stop_ids)
        for line in describe(prepared, recipe):
            say(line)
        yield Check(
            name, True, f"{prepared.data['train_rows']} rows to train on, {prepared.data['eval_rows']} held out"
        )
        name = "model"
        arguments = build_config(recipe, machine, recipe.run_dir)
        settle_recomputation(recipe, machine, prepared.tokens["longest"], arguments)
        model = load_model(recipe, machine, trainable=True, config=config)
        trainer = build_trainer(recipe, arguments, model, tokenizer, prepared.train, prepared.eval)
        trainer.held_out = training_evaluation(recipe, prepared.folder, tokenizer, stop_ids)
    except UserError as error:
        yield Check(name, False, str(error))
        return
    weights = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    yield Check(name, True, f"{weights:,} weights to train on {machine.device} ({machine.name})")
    yield from Readiness(recipe, trainer, prepared, stop_ids).checks(thorough=True)
