"""Record the inputs and results of a run for its run.json."""

from __future__ import annotations

import platform
from typing import Any

import torch

from qdsft.hashing import file_sha256, text_sha256
from qdsft.launch import world_size
from qdsft.model.loading import base_model_facts
from qdsft.recipe import Recipe
from qdsft.recipe.custom_loss import find_custom_loss
from qdsft.runs.facts import BaseModelFacts, DeviceFacts
from qdsft.runs.manifest import Manifest, make_fingerprint
from qdsft.runs.provenance import git_commit, untested_versions, versions
from qdsft.tokenization.prepared import Prepared
from qdsft.training.run_setup import RunInputs
from qdsft.training.trainer import RecipeTrainer


def new_manifest(inputs: RunInputs) -> Manifest:
    """Return the manifest of a run that is about to start."""
    recipe, facts = inputs.recipe, inputs.prepared.facts
    template_sha256 = text_sha256(inputs.tokenizer.chat_template)
    inputs_fingerprint = make_fingerprint(recipe, facts.data, template_sha256, world_size())
    inputs_fingerprint.update(_loss_fingerprint(recipe))
    return Manifest(
        state="running",
        recipe_path=str(recipe.path),
        recipe=recipe.resolved(),
        origins=recipe.origins,
        fingerprint=inputs_fingerprint,
        data=facts.data,
        tokens=facts.tokens,
        template_sha256=template_sha256,
        template_date=inputs.template_date,
        golden_prompts=facts.golden_prompts,
        stop_token_ids=inputs.stop_ids,
        base_model=BaseModelFacts.model_validate(base_model_facts(recipe, inputs.config)),
        artifact="model" if recipe.lora is None else "adapter",
        versions=versions(),
        untested_versions=untested_versions(),
        git=git_commit(),
        device=DeviceFacts(
            kind=inputs.machine.device_type,
            name=inputs.machine.name,
            processes=world_size(),
            platform=platform.platform(),
        ),
    )


def training_results(
    trainer: RecipeTrainer, prepared: Prepared, *, seconds_to_first_step: float, seconds_training: float
) -> dict[str, Any]:
    """Return the timings, losses and peak memory of a finished run."""
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    seen = prepared.facts.tokens.tokens * (trainer.state.epoch or 0)
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "seconds_to_first_step": round(seconds_to_first_step, 2),
        "seconds_training": round(seconds_training, 2),
        "tokens_per_second": round(seen / seconds_training, 1) if seconds_training else None,
        "peak_memory_gib": _peak_memory(),
    }


def _loss_fingerprint(recipe: Recipe) -> dict[str, str]:
    """Return the hash of a custom loss, so that a resume with a changed file is refused."""
    loss = find_custom_loss(recipe)
    return {"loss_sha256": file_sha256(loss.path)} if loss else {}


def _peak_memory() -> float | None:
    """Return the peak memory of this process in GiB: allocated on CUDA, resident on a CPU."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 3)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
