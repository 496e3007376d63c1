"""Stage: all that can be known of a run before anything heavy is loaded. Light: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qdsft.examples import check_examples
from qdsft.recipe import load_recipe


def check(path: str, overrides: Sequence[str]) -> Iterator[str]:
    """Lines that say what was checked; raises UserError for the first thing that is wrong."""
    recipe = load_recipe(path, overrides)
    recipe.check_local_model()
    template = recipe.chat_template_path()
    recipe.accumulation_steps(1)
    yield f"recipe: {path} is valid; it trains {recipe.model.name_or_path} and writes to {recipe.run_dir}"
    yield f"chat template: {template or 'the one of the tokenizer'}"
    split = check_examples(recipe)
    if split is None:
        yield "data: on the Hub, not checked here"
        return
    yield f"data: {len(split.train)} rows to train on, {len(split.eval)} held out, all valid"
    if split.left_out:
        yield f"data: {split.left_out} training rows are left out because their question stands in data.eval"
