"""Recipes over a few made-up rows and a tiny model, for tests that build or train a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.paths import RECIPES

from qdsft.recipe import Recipe, load_recipe

ROW = '{"question": "How old is number %d%s?", "sub_questions": ["Who is number %d?", "How old is #1?"]}\n'
MakeRecipe = Callable[..., Recipe]


def recipe_maker(folder: Path, tiny_model: Callable[[str], Path], *, rows: int = 40) -> MakeRecipe:
    """Return a function that loads a shipped recipe on a tiny model, 40 rows and a run directory in `folder`."""
    data = folder / "rows.jsonl"
    data.write_text("".join(ROW % (i, " or so" * (i % 7), i) for i in range(rows)), encoding="utf-8")

    def make(*overrides: str, name: str = "mistral/lora", architecture: str = "mistral", run: str = "run") -> Recipe:
        fixed = [
            f"model.name_or_path={tiny_model(architecture)}",
            f"data.train={data}",
            "data.eval=null",
            "data.eval_fraction=0.2",
            f"training.output_dir={folder / run}",
            "training.max_steps=2",
            "training.max_length=256",
            "training.report_to=none",
        ]
        return load_recipe(RECIPES / f"{name}.yaml", [*fixed, *overrides])

    return make
