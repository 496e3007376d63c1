"""`qdsft.train`: train a recipe from Python, also in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qdsft.errors import UserError
from qdsft.recipe import RecipeSource, load_recipe
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.training.train import train as train_recipe


@dataclass(frozen=True)
class TrainedRun:
    """A finished training."""

    run_dir: Path
    manifest: Manifest
    """The content of run.json: data, versions, losses, timings, peak memory."""

    @property
    def weights(self) -> Path:
        """Return the folder with the adapter or model, which transformers and PEFT load."""
        return self.manifest.weights_folder(self.run_dir)


def train(
    recipe: RecipeSource, overrides: Sequence[str] = (), *, resume: bool = False, overwrite: bool = False
) -> TrainedRun:
    """Train a recipe in this process.

    `resume` continues from the newest checkpoint, `overwrite` deletes an earlier run first. Raises UserError for
    anything the user can correct, and Interrupted if a signal stopped the training after a checkpoint.
    """
    if resume and overwrite:
        raise UserError("resume and overwrite contradict each other; give one of them")
    run_dir = train_recipe(load_recipe(recipe, overrides), resume=resume, overwrite=overwrite)
    return TrainedRun(run_dir, read_finished(run_dir))
