"""`qdsft check`: check a recipe and its data without loading a model."""

from __future__ import annotations

from collections.abc import Iterator

from qdsft.data.checks.summary import summarise_check
from qdsft.data.sources import is_on_hub
from qdsft.data.split import SplitTally, nothing_held_out, stream_split
from qdsft.data.task import make_task
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import find_custom_loss
from qdsft.recipe.required_packages import check_optional_packages


def check_recipe(recipe: Recipe) -> Iterator[str]:
    """Yield one line for each check that passed. Raises UserError for the first that failed."""
    recipe.check_local_model()
    template = recipe.chat_template_path()
    recipe.accumulation_steps(1)
    check_optional_packages(recipe)
    yield f"recipe: {recipe.path} is valid; it trains {recipe.model.name_or_path} and writes to {recipe.run_dir}"
    yield f"chat template: {template or 'the one of the tokenizer'}"
    if loss := find_custom_loss(recipe):
        yield f"loss: {loss.function} in {loss.path}"
    if is_on_hub(recipe):
        make_task(recipe)
        yield "data: on the Hub, not checked"
        return
    if found := summarise_check(recipe, lengths=True):
        yield found
    tally = SplitTally()
    for side, example in stream_split(recipe):
        tally.add(side, example)
    yield f"data: {tally.rows['train']} rows to train on, {tally.rows['eval']} held out, all valid"
    if tally.rows["left_out"]:
        yield f"data: {tally.rows['left_out']} training rows are left out because their question is in data.eval"
    if note := nothing_held_out(recipe, tally.rows["train"], tally.rows["eval"]):
        yield note
