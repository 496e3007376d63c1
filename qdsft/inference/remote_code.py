"""Compare the Python code that comes with a model with the code that was trained with, before any of it is loaded."""

from __future__ import annotations

from pathlib import Path

from qdsft.errors import UserError
from qdsft.model.loading import code_hashes
from qdsft.recipe import Recipe
from qdsft.runs.manifest import Manifest


def check_code(run_dir: Path, recipe: Recipe, manifest: Manifest) -> None:
    """Raise UserError unless the code of a run's model is the code it was trained with; `recipe` names that model.

    Code on the Hub is identified by its commit, which `pinned` sets.
    """
    folder = Path(recipe.model.name_or_path)
    if not folder.is_dir():
        if manifest.base_model.revision is None:
            raise UserError(f"{run_dir}: run.json has no commit of {recipe.model.name_or_path}; train again")
        return
    known = manifest.base_model.code_sha256
    if known is None:
        raise UserError(
            f"{run_dir}: --trust-remote-code: run.json has no hashes of the model's code; leave the option out, or "
            "train again with model.trust_remote_code=true"
        )
    for name, digest in code_hashes(folder).items():
        # The config.json of a whole model is written at the end of the training.
        if known.get(name) != digest and (name != "config.json" or manifest.artifact == "adapter"):
            raise UserError(f"{folder / name}: is not the file that the run was trained with; put the original back")


def pinned(recipe: Recipe, manifest: Manifest) -> Recipe:
    """Return the recipe with the commit of a Hub model that the run was trained with."""
    commit = manifest.base_model.revision
    if commit is None or Path(recipe.model.name_or_path).is_dir():
        return recipe
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"revision": commit})})
