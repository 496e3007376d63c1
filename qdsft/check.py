"""Stage: all that can be known of a run before anything heavy is loaded. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qdsft.examples import Tally, is_on_hub, make_writer, stream_split
from qdsft.recipe import load_recipe


def check(path: str, overrides: Sequence[str]) -> Iterator[str]:
    """Lines that say what was checked; raises UserError for the first thing that is wrong."""
    recipe = load_recipe(path, overrides)
    recipe.check_local_model()
    template = recipe.chat_template_path()
    recipe.accumulation_steps(1)
    yield f"recipe: {path} is valid; it trains {recipe.model.name_or_path} and writes to {recipe.run_dir}"
    yield f"chat template: {template or 'the one of the tokenizer'}"
    if is_on_hub(recipe):
        make_writer(recipe)
        yield "data: on the Hub, not checked here"
        return
    tally = Tally()
    for side, example in stream_split(recipe):
        tally.add(side, example)
    yield f"data: {tally.rows['train']} rows to train on, {tally.rows['eval']} held out, all valid"
    if tally.rows["left_out"]:
        yield f"data: {tally.rows['left_out']} training rows are left out because their question stands in data.eval"
