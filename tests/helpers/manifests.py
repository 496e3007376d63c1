"""Make manifests without running anything."""

from __future__ import annotations

from typing import Any

from qdsft.recipe import Recipe
from qdsft.runs.facts import DataFacts
from qdsft.runs.manifest import Manifest, make_fingerprint

DATA = DataFacts(train_rows=2, eval_rows=1, left_out=0, train_sha256="t", eval_sha256="e")


RECIPE = """\
model:
  name_or_path: m
data:
  train: t.jsonl
  eval_fraction: 0
training:
  learning_rate: 2e-4
  lr_scheduler_type: cosine
  lr_scheduler_kwargs: {num_cycles: 0.5}
"""


def manifest_of(recipe: Recipe, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "state": "running",
        "recipe_path": str(recipe.path),
        "recipe": recipe.resolved(),
        "origins": recipe.origins,
        "fingerprint": make_fingerprint(recipe, DATA, "x", 1),
        "data": DATA,
        "tokens": {},
        "template_sha256": "0" * 64,
        "golden_prompts": [{"messages": [{"role": "user", "content": "한국?"}], "ids": [1, 2]}],
        "stop_token_ids": [2],
        "base_model": {"name_or_path": "m"},
        "artifact": "adapter",
        "versions": {"qdsft": "0"},
        "git": None,
        "device": {},
    }
    return Manifest.model_validate({**values, **changes})
